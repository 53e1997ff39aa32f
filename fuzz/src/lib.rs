//! What the fuzz targets share: how an input reads as an image, and what must hold of every answer.

pub mod disk;
pub mod memory;
pub mod record;

/// Asserts that a text can be printed: it is one line, and no character of it moves a cursor or hides others.
pub fn assert_printable(what: &str, text: &str) {
    assert_eq!(sps::text::plain(text), text, "{what} is not fit to be printed");
}
