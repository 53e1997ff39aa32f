//! Bytes on their way in and out: hashed as they pass, holes left holes, progress shown where somebody sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::fs::SeekFrom;

use crate::error::{Error, Result};
use crate::image::Digest;

/// How much is moved at once.
const PIECE_BYTES: usize = 1 << 20;

/// How often the progress is drawn again while nothing moves.
const TICK: Duration = Duration::from_millis(250);

/// A transfer under way: what has passed so far.
pub(super) struct Transfer {
    hasher: blake3::Hasher,
    bar: ProgressBar,
    buffer: Vec<u8>,
}

impl Transfer {
    /// Begins one of `size_bytes`, if that is known. The progress is drawn on standard error if that is a terminal.
    pub(super) fn begin(name: &str, size_bytes: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(size_bytes, ProgressDrawTarget::stderr());
        let known = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let unknown = "{msg} {spinner} {bytes} {bytes_per_sec}";
        let style =
            ProgressStyle::with_template(if size_bytes.is_some() { known } else { unknown });
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(TICK);
        Self { hasher: blake3::Hasher::new(), bar, buffer: vec![0; PIECE_BYTES] }
    }

    /// What has passed is forgotten: it begins anew.
    pub(super) fn begin_again(&mut self) {
        self.hasher = blake3::Hasher::new();
        self.bar.reset();
    }

    /// How far the first `length` bytes of two files are the same; those are taken to have passed.
    pub(super) fn compare(&mut self, source: &File, target: &File, length: u64) -> Result<u64> {
        let mut other = vec![0; PIECE_BYTES];
        let mut at = 0;
        while at < length {
            let wanted = usize::try_from(length - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let count = read_at(source, &mut self.buffer, at, wanted)?;
            let there = read_at(target, &mut other, at, wanted)?;
            let (piece, kept) = (self.buffer.get(..count), other.get(..there));
            if piece != kept || count == 0 {
                break;
            }
            self.hasher.update(piece.unwrap_or_default());
            at += count as u64;
            self.bar.set_position(at);
        }
        self.bar.reset_eta();
        Ok(at)
    }

    /// Copies a file from `start` to `size_bytes`. What is a hole in it is one in the other, too.
    pub(super) fn copy(
        &mut self,
        source: &File,
        target: &File,
        start: u64,
        size_bytes: u64,
    ) -> Result<()> {
        let mut at = start;
        while at < size_bytes {
            let data = seek(source, SeekFrom::Data(at))?.unwrap_or(size_bytes).min(size_bytes);
            self.pass_hole(data - at);
            at = data;
            let hole = seek(source, SeekFrom::Hole(at))?.unwrap_or(size_bytes).min(size_bytes);
            while at < hole {
                let wanted = usize::try_from(hole - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
                let count = read_at(source, &mut self.buffer, at, wanted)?;
                if count == 0 {
                    return Err(Error::SourceChanged(
                        "the file became shorter while it was copied".into(),
                    ));
                }
                let piece = self.buffer.get(..count).unwrap_or_default();
                target
                    .write_all_at(piece, at)
                    .map_err(|error| Error::io("write", "the copy", error))?;
                self.hasher.update(piece);
                at += count as u64;
                self.bar.set_position(at);
            }
        }
        target.set_len(size_bytes).map_err(|error| Error::io("write", "the copy", error))
    }

    /// Copies a stream to its end; answers how many bytes that were.
    pub(super) fn stream(
        &mut self,
        source: &mut impl Read,
        target: &mut impl Write,
    ) -> Result<u64> {
        let mut total = 0;
        loop {
            let count = match source.read(&mut self.buffer) {
                Ok(0) => return Ok(total),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", "the source", error)),
            };
            let piece = self.buffer.get(..count).unwrap_or_default();
            target.write_all(piece).map_err(|error| Error::io("write", "the copy", error))?;
            self.hasher.update(piece);
            total += count as u64;
            self.bar.set_position(total);
        }
    }

    /// The digest of all that has passed.
    pub(super) fn finish(self) -> Digest {
        self.bar.finish_and_clear();
        Digest::from_bytes(*self.hasher.finalize().as_bytes())
    }

    fn pass_hole(&mut self, length: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            self.hasher.update(ZEROS.get(..count).unwrap_or_default());
            left -= count as u64;
        }
        self.bar.inc(length);
    }
}

fn read_at(file: &File, buffer: &mut [u8], at: u64, wanted: usize) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..wanted).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", "the source", error)),
        }
    }
    Ok(done)
}

/// The next data or hole; none when there is no data up to the end.
fn seek(file: &File, from: SeekFrom) -> Result<Option<u64>> {
    match rustix::fs::seek(file, from) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(Error::io("seek", "the source", error)),
    }
}
