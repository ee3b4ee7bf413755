"""The data floor: from files people have to rows a network reads, in an order that is a pure function."""
