//! The supervisor's core: pure. What happens goes in, what is to be done comes out.

mod io;

pub use io::{CommandId, Effect, Found, Input, Token};
