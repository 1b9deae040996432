"""`events/asyncapi.yaml`, generated from the schemas, examples and topic files: `python -m events.asyncapi write`."""
