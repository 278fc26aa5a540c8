"""What a task says of itself: options, queues, events, webhooks, schedules; and the registry of tasks."""
