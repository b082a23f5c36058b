//! Forms: declared as data, with one key handler and one way to draw them.

mod advanced;
mod draw;
mod field;
mod form;
pub mod new_vm;
mod text_line;
pub mod wizard;

pub use field::{Choice, Field, Kind};
pub use form::{Form, Outcome};
pub use text_line::TextLine;
