"""Pure, synchronous steps from items to items: one operator a file."""
