//! How many values a page of the encodings `DELTA_LENGTH_BYTE_ARRAY` and `DELTA_BYTE_ARRAY` says that it has: its reader makes room for so
//! many before it looks at the first.
//!
//! Encodings: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use parquet::basic::Encoding;
use parquet::column::page::Page;
use parquet::schema::types::ColumnDescriptor;

/// Values of one page at most, beyond what any writer puts into one.
const VALUES_MAX: u64 = 1 << 24;

/// What is wrong with a page.
type Wrong = &'static str;

const CUT: Wrong = "a page ends within the lengths of its values";
const NONE: Wrong = "the lengths of the values of a page are none";

/// Checks a page that was unpacked, if its values are in one of these encodings.
pub(super) fn check(page: &Page, column: &ColumnDescriptor) -> Result<(), Wrong> {
    if !matches!(page.encoding(), Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
        return Ok(());
    }
    let most = u64::from(page.num_values()).min(VALUES_MAX);
    let Some(mut values) = values(page, column)? else { return Ok(()) };
    let lengths = Lengths::begin(&mut values, most)?;
    if page.encoding() == Encoding::DELTA_BYTE_ARRAY {
        // These say how much each value has of the one before; how much it has of its own follows.
        lengths.pass(&mut values)?;
        Lengths::begin(&mut values, most)?;
    }
    Ok(())
}

/// Returns the values of a page, which stand behind the levels; nothing of a dictionary.
fn values<'a>(page: &'a Page, column: &ColumnDescriptor) -> Result<Option<&'a [u8]>, Wrong> {
    let cut = "a page ends within its levels";
    match page {
        Page::DataPage { buf, num_values, rep_level_encoding, def_level_encoding, .. } => {
            let mut left: &[u8] = buf;
            for (most, encoding) in
                [(column.max_rep_level(), *rep_level_encoding), (column.max_def_level(), *def_level_encoding)]
            {
                let length = match encoding {
                    _ if most == 0 => 0,
                    Encoding::RLE => {
                        let (length, after) = left.split_first_chunk().ok_or(cut)?;
                        left = after;
                        u32::from_le_bytes(*length) as usize
                    }
                    // As many bits as the greatest level takes.
                    _ => (*num_values as usize * most.ilog2().saturating_add(1) as usize).div_ceil(8),
                };
                left = left.get(length..).ok_or(cut)?;
            }
            Ok(Some(left))
        }
        Page::DataPageV2 { buf, rep_levels_byte_len, def_levels_byte_len, .. } => {
            let length = *rep_levels_byte_len as usize + *def_levels_byte_len as usize;
            buf.get(length..).map(Some).ok_or(cut)
        }
        Page::DictionaryPage { .. } => Ok(None),
    }
}

/// Numbers as differences: blocks of smaller blocks, each with the bits that its differences take.
struct Lengths {
    /// Numbers of a smaller block.
    numbers: u64,
    /// Smaller blocks of a block.
    blocks: u64,
    /// Numbers that are in blocks: all but the first.
    left: u64,
}

impl Lengths {
    /// Passes what is said of all of them, the first one too.
    fn begin(from: &mut &[u8], most: u64) -> Result<Lengths, Wrong> {
        let (block, blocks, count) = (number(from)?, number(from)?, number(from)?);
        number(from)?;
        if count > most {
            return Err("a page has lengths of more values than it has");
        }
        // So that what a block takes is no number above all.
        if block > VALUES_MAX || blocks == 0 || block % blocks > 0 {
            return Err(NONE);
        }
        Ok(Lengths { numbers: block / blocks, blocks, left: count.saturating_sub(1) })
    }

    /// Passes the blocks.
    fn pass(mut self, from: &mut &[u8]) -> Result<(), Wrong> {
        while self.left > 0 {
            number(from)?;
            let blocks = usize::try_from(self.blocks).map_err(|_| CUT)?;
            let (widths, after) = from.split_at_checked(blocks).ok_or(CUT)?;
            *from = after;
            for width in widths {
                // Blocks that nothing is left for take nothing, whatever their width.
                if self.left > 0 {
                    let bytes = u64::from(*width) * self.numbers / 8;
                    *from = usize::try_from(bytes).ok().and_then(|bytes| from.get(bytes..)).ok_or(CUT)?;
                }
                self.left = self.left.saturating_sub(self.numbers);
            }
        }
        Ok(())
    }
}

/// Passes a number of seven bits a byte, the least ones first.
fn number(from: &mut &[u8]) -> Result<u64, Wrong> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, after) = from.split_first().ok_or(CUT)?;
        *from = after;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Ok(number);
        }
    }
    Err(NONE)
}
