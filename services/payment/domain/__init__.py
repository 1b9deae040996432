"""What the payment service decides: an order, and the refund of an order. Pure: time and facts come in as arguments."""
