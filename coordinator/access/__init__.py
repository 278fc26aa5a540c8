"""Who may do what: keys, callers, leases of attempts; and what is kept from everyone: secrets, signatures.
Promises that no key and no secret can be read back from what it stores.
The API, the sources that verify senders, and whoever writes for an attempt.
"""
