"""Ways to run a frozen encoder over many values, and the choice between them."""
