"""Who is woken when something changed: topics and waits in this process, channels between several, seats.
Promises that whoever waits hears of every change after it is committed, and of none twice by its own fault.
Stores name topics; the API and the duties wake and wait.
"""
