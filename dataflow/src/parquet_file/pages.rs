//! Pages of the groups that are read, each looked at before its values are.

use std::sync::Arc;

use parquet::arrow::arrow_reader::RowGroups;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use super::delta;

/// The groups of a file that are read.
pub(super) struct Groups<R> {
    pub(super) file: Arc<R>,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) chosen: Vec<usize>,
}

impl<R: ChunkReader + 'static> RowGroups for Groups<R> {
    fn num_rows(&self) -> usize {
        let rows = self.row_groups().map(|group| usize::try_from(group.num_rows()).unwrap_or(0));
        rows.fold(0, usize::saturating_add)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let groups = self.chosen.clone().into_iter();
        Ok(Box::new(Chunks { file: self.file.clone(), metadata: self.metadata.clone(), groups, column }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.chosen.iter().map(|group| self.metadata.row_group(*group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// What one column has in the groups that are read.
struct Chunks<R> {
    file: Arc<R>,
    metadata: Arc<ParquetMetaData>,
    groups: std::vec::IntoIter<usize>,
    column: usize,
}

impl<R: ChunkReader + 'static> Iterator for Chunks<R> {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Result<Box<dyn PageReader>>> {
        let group = self.metadata.row_group(self.groups.next()?);
        let column = group.column(self.column);
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(self.file.clone(), column, rows, None);
        Some(pages.map(|pages| Box::new(Pages { from: pages, column: column.column_descr_ptr() }) as _))
    }
}

impl<R: ChunkReader + 'static> PageIterator for Chunks<R> {}

/// The pages of one column in one group.
struct Pages<R: ChunkReader> {
    from: SerializedPageReader<R>,
    column: ColumnDescPtr,
}

impl<R: ChunkReader> PageReader for Pages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.from.get_next_page()?;
        if let Some(page) = &page {
            delta::check(page, &self.column).map_err(|wrong| ParquetError::General(wrong.to_owned()))?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.from.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.from.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.from.at_record_boundary()
    }
}

impl<R: ChunkReader> Iterator for Pages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}
