//! A record that inputs are applied to.

use sps::image::{
    Checksums, Content, Details, Expected, Image, ImageId, ImageName, ImageNumber, Ownership,
    StoreTime, Timestamp,
};
use sps::lifecycle::Status;

/// An image of which nothing has come.
pub fn queued() -> Image {
    let at = Timestamp::from_nanoseconds(0);
    Image {
        id: ImageId::from_bytes([7; 16]),
        number: ImageNumber::new(1),
        version: 1,
        name: ImageName::new(b"x").expect("a name"),
        status: Status::Queued,
        content: Content::Absent,
        ownership: Ownership { uid: 1, gid: 1, mode: 0o640 },
        created_at: at,
        updated_at: at,
        status_at: at,
        entered_at: StoreTime::from_nanoseconds(0),
        modified_at: at,
        origin: None,
        bound_digest: None,
        is_provisional: false,
        expected: Expected::default(),
        checksums: Checksums::default(),
        details: Details::default(),
        message: None,
    }
}
