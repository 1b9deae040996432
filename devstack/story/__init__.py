"""The guide's story, played through the gateway as the client apps would: `python -m devstack.story [name …]`."""
