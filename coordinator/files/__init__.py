"""Files that runs are given and files that they keep: rows here, contents in the blob store.
Promises that a file is there whole and as its digest says, or not at all, and that one in use stays.
The API, the fleet's side for attempts, and whoever makes runs.
"""
