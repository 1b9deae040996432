"""What the services share: events and their log, the relay to Kafka, consumers, deadlines, and the HTTP kit."""
