"""The compiled engine behind `QueueStore`: putting, getting, maintenance."""
