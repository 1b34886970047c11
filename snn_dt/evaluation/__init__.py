"""Run policies in environments and measure them."""
