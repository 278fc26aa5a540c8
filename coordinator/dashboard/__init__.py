"""The dashboard: pages made on the server, of what the API answers to the key of whoever is signed in."""
