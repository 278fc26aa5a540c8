"""What makes runs besides a trigger: schedules, events, webhooks and their deliveries.
Promises one run for each tick, event or delivery and task, however often it comes.
The API, the duties, and deployments that declare them.
"""
