//! Images as they are seen through a mount: attributes read from paths.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;

/// What the names of all attributes of sps begin with.
pub(super) const PREFIX: &str = "user.sps.";

/// The longest value that is read.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// An image as the command line shows it, in the words of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    /// Length in bytes; none where it is not known.
    pub(super) size: Option<u64>,
    /// In bytes; none where the format has none, or it is not known.
    pub(super) virtual_size: Option<u64>,
    pub(super) disk_format: Option<String>,
    pub(super) blake3: Option<String>,
    pub(super) owner: Option<u32>,
    pub(super) visibility: Option<String>,
    pub(super) protected: Option<bool>,
    /// UTC, RFC 3339.
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
    pub(super) status_at: Option<String>,
    pub(super) message: Option<String>,
    /// By what its folder lists it: the name, or `NAME~ID8`.
    #[serde(skip)]
    pub(super) listed: OsString,
}

impl View {
    /// Reads the attributes of an image. None when the path is not one, or is gone.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let read = |name| attribute(path, name);
        Some(Self {
            id: read("id")?,
            name: read("name")?,
            status: read("status")?,
            size: read("size").and_then(|size| size.parse().ok()),
            virtual_size: read("virtual_size").and_then(|size| size.parse().ok()),
            disk_format: read("disk_format"),
            blake3: read("blake3"),
            owner: read("owner").and_then(|owner| owner.parse().ok()),
            visibility: read("visibility"),
            protected: read("protected").and_then(|is| is.parse().ok()),
            created_at: read("created_at"),
            updated_at: read("updated_at"),
            status_at: read("status_at"),
            message: read("message"),
            listed: path.file_name().unwrap_or_default().to_owned(),
        })
    }
}

/// The names of the attributes that a path lists, without what all of them begin with.
pub(super) fn attribute_names(path: &Path) -> Vec<String> {
    let mut buffer = vec![0; VALUE_BYTES_MAX];
    let length = rustix::fs::listxattr(path, &mut buffer).unwrap_or(0);
    buffer.truncate(length);
    let names = String::from_utf8(buffer).unwrap_or_default();
    names.split('\0').filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect()
}

/// The value of `user.sps.NAME` of a path, if it has one.
pub(super) fn attribute(path: &Path, name: &str) -> Option<String> {
    let mut buffer = vec![0; VALUE_BYTES_MAX];
    let name = format!("{PREFIX}{name}");
    let length = rustix::fs::getxattr(path, name.as_str(), &mut buffer).ok()?;
    buffer.truncate(length);
    String::from_utf8(buffer).ok()
}
