"""Faust processors of the payment service: what follows from events of several services, exactly once each."""
