"""The database and the blobs: connections, what differs by dialect, tables, migrations, large values.
Promises one transaction per write, durable when it returns, on SQLite and PostgreSQL alike.
Every room below; no other one opens a connection or a blob.
"""
