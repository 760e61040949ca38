//! The binary format, after the GNU gettext manual's section "The Format of GNU MO Files".

use super::plural::PluralRule;

/// The longest catalogue that is read, in bytes. The largest of [`crate::catalogues`] has 2.5 MB.
pub const MAX_CATALOGUE_LEN: usize = 32 << 20;

/// A catalogue's messages in the file's order, without the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// The messages.
    pub messages: Vec<Message>,
    /// Which form goes with which number; none where the header's rule cannot be read.
    pub plural: Option<PluralRule>,
}

/// One message and its translation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `msgctxt`.
    pub context: Option<String>,
    /// `msgid`.
    pub singular: String,
    /// `msgid_plural`.
    pub plural: Option<String>,
    /// `msgstr`, or every `msgstr[i]` where there is a plural. Never empty; its texts may be.
    pub translations: Vec<String>,
}

/// Why bytes are not a catalogue that can be read. The file is at fault; a catalogue made anew by
/// `msgfmt` mends each of these, except where the charset is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// The first four bytes are none of gettext's.
    #[error("not a gettext catalogue: it begins with {0:02x?}, not de 12 04 95 or 95 04 12 de")]
    NotACatalogue(Vec<u8>),
    /// Longer than [`MAX_CATALOGUE_LEN`].
    #[error("{0} bytes are more than any catalogue of messages has")]
    TooLong(usize),
    /// A format newer than is known.
    #[error("the catalogue has format revision {0}; only 0 and 1 are known")]
    Revision(u16),
    /// A table or text lies outside the file.
    #[error(
        "the catalogue is cut short or damaged: {wanted} bytes wanted at offset {offset}, it has {len}"
    )]
    OutOfBounds {
        /// Where.
        offset: u64,
        /// How many.
        wanted: u64,
        /// The file's length.
        len: usize,
    },
    /// A text does not end in the zero byte that its length promises.
    #[error("the catalogue is damaged: the text at offset {offset} does not end in a zero byte")]
    NotTerminated {
        /// Where the text begins.
        offset: usize,
    },
    /// Texts overlap so that they would be larger than the file.
    #[error(
        "the catalogue is damaged: its texts overlap, together they would be longer than its {len} bytes"
    )]
    Overlapping {
        /// The file's length.
        len: usize,
    },
    /// A charset that is not converted.
    #[error(
        "the catalogue's texts are in {0:?}; UTF-8, ASCII, ISO-8859-1 and ISO-8859-15 are read: convert it with msgconv --to-code=UTF-8"
    )]
    Charset(String),
    /// Bytes that are no text in the charset that the header names.
    #[error("the catalogue says its texts are UTF-8, but the byte at offset {offset} is not")]
    InvalidText {
        /// Where.
        offset: usize,
    },
}

/// Reads a catalogue of either byte order.
pub fn parse(bytes: &[u8]) -> Result<Catalogue, CatalogueError> {
    if bytes.len() > MAX_CATALOGUE_LEN {
        return Err(CatalogueError::TooLong(bytes.len()));
    }
    let file = File::new(bytes)?;
    let revision = (file.u32(4)? >> 16) as u16;
    if revision > 1 {
        return Err(CatalogueError::Revision(revision));
    }
    let count = u64::from(file.u32(8)?);
    let originals = u64::from(file.u32(12)?);
    let translations = u64::from(file.u32(16)?);
    // Both tables must be there before anything is reserved for their entries.
    file.at(originals, count * 8)?;
    file.at(translations, count * 8)?;

    let mut texts = Vec::with_capacity(count as usize);
    let mut total = 0;
    for i in 0..count {
        let original = file.text(originals + 8 * i)?;
        let translation = file.text(translations + 8 * i)?;
        total += original.1.len() + translation.1.len();
        // Without this bound a small file could name its own whole length thousands of times.
        if total > bytes.len() {
            return Err(CatalogueError::Overlapping { len: bytes.len() });
        }
        texts.push((original, translation));
    }

    let header = texts.iter().find(|(original, _)| original.1.is_empty());
    let header = header.map(|(_, translation)| String::from_utf8_lossy(translation.1));
    let header = header.unwrap_or_default();
    let charset = Charset::of_header(&header)?;
    let mut messages = Vec::with_capacity(texts.len());
    for (original, translation) in texts {
        if !original.1.is_empty() {
            let (original, translation) = (charset.decode(original)?, charset.decode(translation)?);
            messages.push(message(&original, &translation));
        }
    }
    Ok(Catalogue { messages, plural: plural_rule(&header) })
}

/// `context EOT singular NUL plural`, and translations parted by NUL.
fn message(original: &str, translation: &str) -> Message {
    let (context, ids) = match original.split_once('\u{4}') {
        Some((context, ids)) => (Some(context.to_owned()), ids),
        None => (None, original),
    };
    let mut ids = ids.splitn(2, '\0').map(str::to_owned);
    let singular = ids.next().unwrap_or_default();
    let translations = translation.split('\0').map(str::to_owned).collect();
    Message { context, singular, plural: ids.next(), translations }
}

fn plural_rule(header: &str) -> Option<PluralRule> {
    match field(header, "Plural-Forms") {
        Some(rule) => rule.parse().ok(),
        // What gettext's own library does without the field.
        None => Some(PluralRule::germanic()),
    }
}

/// The value of a field of the header, which has one `Name: value` a line.
fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[derive(Clone, Copy)]
enum Charset {
    Utf8,
    Latin1,
    Latin9,
}

impl Charset {
    fn of_header(header: &str) -> Result<Self, CatalogueError> {
        let name = field(header, "Content-Type")
            .and_then(|value| value.split_once("charset=").map(|(_, name)| name.trim()))
            .unwrap_or("UTF-8");
        match name.to_ascii_lowercase().as_str() {
            // A template's header that nobody filled in; such files are ASCII or UTF-8.
            "charset" | "utf-8" | "utf8" | "ascii" | "us-ascii" => Ok(Self::Utf8),
            "iso-8859-1" | "iso8859-1" | "latin1" => Ok(Self::Latin1),
            "iso-8859-15" | "iso8859-15" | "latin9" | "latin-9" => Ok(Self::Latin9),
            _ => Err(CatalogueError::Charset(name.chars().take(40).collect())),
        }
    }

    fn decode(self, (offset, bytes): (usize, &[u8])) -> Result<String, CatalogueError> {
        match self {
            Self::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(text.to_owned()),
                Err(e) => Err(CatalogueError::InvalidText { offset: offset + e.valid_up_to() }),
            },
            Self::Latin1 => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
            Self::Latin9 => Ok(bytes.iter().map(|byte| latin9(*byte)).collect()),
        }
    }
}

/// ISO-8859-15 is ISO-8859-1 but for eight characters.
fn latin9(byte: u8) -> char {
    match byte {
        0xa4 => '€',
        0xa6 => 'Š',
        0xa8 => 'š',
        0xb4 => 'Ž',
        0xb8 => 'ž',
        0xbc => 'Œ',
        0xbd => 'œ',
        0xbe => 'Ÿ',
        _ => char::from(byte),
    }
}

/// Checked reading at offsets that the file itself names.
struct File<'a> {
    bytes: &'a [u8],
    read: fn([u8; 4]) -> u32,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, CatalogueError> {
        match bytes.get(..4) {
            Some([0xde, 0x12, 0x04, 0x95]) => Ok(Self { bytes, read: u32::from_le_bytes }),
            Some([0x95, 0x04, 0x12, 0xde]) => Ok(Self { bytes, read: u32::from_be_bytes }),
            _ => Err(CatalogueError::NotACatalogue(bytes.iter().take(4).copied().collect())),
        }
    }

    fn at(&self, offset: u64, wanted: u64) -> Result<&'a [u8], CatalogueError> {
        let end = offset.checked_add(wanted).and_then(|end| usize::try_from(end).ok());
        let piece = end.and_then(|end| self.bytes.get(usize::try_from(offset).ok()?..end));
        piece.ok_or(CatalogueError::OutOfBounds { offset, wanted, len: self.bytes.len() })
    }

    fn u32(&self, offset: u64) -> Result<u32, CatalogueError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.at(offset, 4)?);
        Ok((self.read)(bytes))
    }

    /// The text whose length and offset stand at `entry`; with the offset.
    fn text(&self, entry: u64) -> Result<(usize, &'a [u8]), CatalogueError> {
        let (len, offset) = (u64::from(self.u32(entry)?), u64::from(self.u32(entry + 4)?));
        // With the zero byte that ends it and is not counted.
        match self.at(offset, len + 1)? {
            [text @ .., 0] => Ok((offset as usize, text)),
            _ => Err(CatalogueError::NotTerminated { offset: offset as usize }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str =
        "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=n != 1;\n";

    /// A catalogue's bytes, as msgfmt lays them out.
    pub(crate) fn file(texts: &[(&[u8], &[u8])], order: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let count = texts.len() as u32;
        let mut words = vec![0x9504_12de, 0, count, 28, 28 + 8 * count, 0, 28 + 16 * count];
        let mut strings: Vec<u8> = Vec::new();
        let sides = texts.iter().map(|text| text.0).chain(texts.iter().map(|text| text.1));
        for text in sides {
            words.push(text.len() as u32);
            words.push(28 + 16 * count + strings.len() as u32);
            strings.extend_from_slice(text);
            strings.push(0);
        }
        words.into_iter().flat_map(order).chain(strings).collect()
    }

    fn sample(order: fn(u32) -> [u8; 4]) -> Vec<u8> {
        file(
            &[
                (b"", HEADER.as_bytes()),
                (b"menu\x04Open", "Öffnen".as_bytes()),
                (b"%d file\0%d files", b"%d Datei\0%d Dateien"),
            ],
            order,
        )
    }

    #[test]
    fn contexts_and_plurals_are_read_in_either_byte_order() {
        for order in [u32::to_le_bytes, u32::to_be_bytes] {
            let catalogue = parse(&sample(order)).unwrap();
            let [open, files] = &catalogue.messages[..] else { panic!("{catalogue:?}") };
            assert_eq!(open.context.as_deref(), Some("menu"));
            assert_eq!(
                (&open.singular[..], &open.translations[..]),
                ("Open", &["Öffnen".into()][..])
            );
            assert_eq!(files.plural.as_deref(), Some("%d files"));
            assert_eq!(files.translations, ["%d Datei", "%d Dateien"]);
            assert_eq!(catalogue.plural.unwrap().form_of(1), Some(0));
        }
    }

    #[test]
    fn latin_charsets_are_converted_and_others_refused_by_name() {
        let with = |charset: &str| {
            let header = format!("Content-Type: text/plain; charset={charset}\n");
            parse(&file(&[(b"", header.as_bytes()), (b"price", b"\xa4 \xfc")], u32::to_le_bytes))
        };
        assert_eq!(with("ISO-8859-1").unwrap().messages[0].translations, ["¤ ü"]);
        assert_eq!(with("iso-8859-15").unwrap().messages[0].translations, ["€ ü"]);
        assert_eq!(with("KOI8-R"), Err(CatalogueError::Charset("KOI8-R".into())));
        let Err(CatalogueError::InvalidText { offset }) = with("UTF-8") else { panic!() };
        assert!(offset > 28, "{offset}");
    }

    #[test]
    fn damage_is_named_with_its_offset() {
        let good = sample(u32::to_le_bytes);
        assert!(matches!(parse(b"GIF8"), Err(CatalogueError::NotACatalogue(_))));
        assert!(matches!(parse(b""), Err(CatalogueError::NotACatalogue(_))));
        let cut = parse(&good[..good.len() - 3]).unwrap_err();
        assert!(matches!(cut, CatalogueError::OutOfBounds { .. }), "{cut}");
        let mut newer = good.clone();
        newer[6] = 2;
        assert_eq!(parse(&newer), Err(CatalogueError::Revision(2)));
        let mut unended = good.clone();
        *unended.last_mut().unwrap() = b'!';
        assert!(matches!(parse(&unended), Err(CatalogueError::NotTerminated { .. })));
        let mut many = good;
        many[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = parse(&many).unwrap_err();
        assert!(matches!(error, CatalogueError::OutOfBounds { offset: 28, .. }), "{error}");
    }

    #[test]
    fn texts_that_overlap_cannot_make_a_small_file_large() {
        let mut bytes: Vec<u8> =
            [0x9504_12deu32, 0, 1000, 28, 28].into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.resize(28, 0);
        for _ in 0..1000 {
            bytes.extend(8000u32.to_le_bytes());
            bytes.extend(28u32.to_le_bytes());
        }
        bytes.push(0);
        assert_eq!(parse(&bytes), Err(CatalogueError::Overlapping { len: 8029 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_catalogue_never_panics(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
            big in any::<bool>(),
        ) {
            let mut bytes = sample(if big { u32::to_be_bytes } else { u32::to_le_bytes });
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(catalogue) = parse(&bytes) {
                super::super::pairs(&catalogue);
            }
            bytes.truncate(cut.index(bytes.len()));
            let _ = parse(&bytes);
        }
    }
}
