//! banger's entry point.

fn main() {}
