//! Writes event files, one an attempt.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use crate::message::{Event, SESSION_START, SessionLog, Summary, Value, What};
use crate::record::frame;

/// Why an event file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the TensorBoard events of {}: {source}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// The file or folder, and why it could not be written.
    pub fn into_parts(self) -> (PathBuf, io::Error) {
        (self.path, self.source)
    }
}

/// The result of writing events.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Writes an attempt's scalars to an event file of its own.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Begins the next file of `folder`, which is made where it is missing, at a step and a time in seconds since 1970.
    ///
    /// What earlier files of the folder say of `first_step` and later is forgotten by readers.
    pub fn create(folder: &Path, first_step: u64, wall_time: f64) -> Result<Self> {
        let (path, file) = next_file(folder).map_err(|source| Error { path: folder.to_owned(), source })?;
        let mut writer = Self { path, file };
        writer.write(0, wall_time, What::FileVersion("brain.Event:2".to_owned()))?;
        writer.write(first_step, wall_time, What::SessionLog(SessionLog { status: SESSION_START }))?;
        Ok(writer)
    }

    /// Adds the value of `tag` at a step; `wall_time` is in seconds since 1970.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f64) -> Result<()> {
        self.scalars(step, wall_time, &[(tag, value)])
    }

    /// Adds the values of several tags at a step, as one event; `wall_time` is in seconds since 1970.
    pub fn scalars(&mut self, step: u64, wall_time: f64, values: &[(&str, f64)]) -> Result<()> {
        let value = |&(tag, value): &(&str, f64)| Value { tag: tag.to_owned(), simple_value: Some(value as f32) };
        self.write(step, wall_time, What::Summary(Summary { value: values.iter().map(value).collect() }))
    }

    /// Where the events go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an event at once and whole, so that a TensorBoard that watches the file sees it.
    fn write(&mut self, step: u64, wall_time: f64, what: What) -> Result<()> {
        let event = Event { wall_time, step: step.cast_signed(), what: Some(what) };
        let framed = frame(&event.encode_to_vec());
        self.file.write_all(&framed).map_err(|source| Error { path: self.path.clone(), source })
    }
}

/// Makes the first file that `folder` lacks. TensorBoard reads files in the order of their names.
fn next_file(folder: &Path) -> io::Result<(PathBuf, File)> {
    fs::create_dir_all(folder)?;
    let mut number = 0;
    loop {
        let path = folder.join(format!("events.out.tfevents.{number:010}.palimpsest"));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}
