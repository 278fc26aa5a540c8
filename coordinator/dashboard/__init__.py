"""The dashboard: pages made on the server, of what the API answers to the key of whoever is signed in.
Promises that no text of a task acts on a page, and that a session sees and does what its key could over the API.
Called by browsers, by way of the application; it has no way to the database of its own.
"""
