//! Reading a registry that another process has: nothing of it is changed, not even at the end.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{registry_error, schema};
use crate::error::{Error, Result};

/// Opens the database at `path` to read it. Where nothing may be written beside it (a snapshot, a disk that is
/// mounted read-only) and there is no log, nobody can be changing it either.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(prepared);
    match opened {
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen)
                && !path.with_extension("db-wal").exists() =>
        {
            let uri = format!("file:{}?immutable=1", escaped(path)?);
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
                .and_then(prepared)
                .map_err(registry_error)
        }
        other => other.map_err(registry_error),
    }
}

fn prepared(mut connection: Connection) -> rusqlite::Result<Connection> {
    schema::tune(&mut connection)?;
    // Only now the files are opened.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

/// The path as a URI has it.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Error::Usage("the path is no text".into()))?;
    Ok(text.replace('%', "%25").replace('?', "%3f").replace('#', "%23"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_part_of_the_options_of_a_uri() {
        assert_eq!(escaped(Path::new("/a?b#c%d")).expect("text"), "/a%3fb%23c%25d");
    }
}
