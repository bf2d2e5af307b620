//! Taking little-endian fields off a slice, with the error of the file they stand in.

use super::{FormatError, VERSION};

/// What is left of a record.
pub(super) struct Reader<'f, 'a> {
    pub(super) file: &'f str,
    pub(super) what: &'static str,
    pub(super) rest: &'a [u8],
}

impl<'f, 'a> Reader<'f, 'a> {
    pub(super) fn new(file: &'f str, what: &'static str, rest: &'a [u8]) -> Reader<'f, 'a> {
        Reader { file, what, rest }
    }

    pub(super) fn invalid(&self, reason: impl Into<String>) -> FormatError {
        FormatError::Invalid { file: self.file.to_owned(), what: self.what, reason: reason.into() }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.invalid(format!("it is cut short, {} bytes are missing", len - self.rest.len())));
        };
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        Ok(self.bytes(N)?.try_into().expect("as long as asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Four letters and a version, of those that this kind of record has.
    pub(super) fn magic(&mut self, magic: [u8; 4], newest: u32) -> Result<u32, FormatError> {
        if self.array()? != magic {
            return Err(self.invalid("it begins with other letters: is it another file?"));
        }
        match self.u32()? {
            version if (1..=newest).contains(&version) => Ok(version),
            newer if newer > VERSION => {
                Err(FormatError::Newer { file: self.file.to_owned(), found: format!("vrckpt/{newer}") })
            }
            other => Err(self.invalid(format!("version {other} does not exist"))),
        }
    }

    pub(super) fn end(&self) -> Result<(), FormatError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(self.invalid(format!("{extra} bytes follow its end"))),
        }
    }
}

/// Splits off a CRC32C at the end and checks it over everything before.
pub(super) fn checked<'a>(file: &str, what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let invalid =
        |reason: &str| FormatError::Invalid { file: file.to_owned(), what, reason: reason.to_owned() };
    let (content, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| invalid("it is cut short"))?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return Err(invalid("its checksum is wrong: it is damaged or cut short"));
    }
    Ok(content)
}
