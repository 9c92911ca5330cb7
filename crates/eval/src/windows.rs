//! Cuts documents into windows and puts windows side by side into rows.

use palimpsest_model::Row;

use crate::Document;

/// No loss at this position.
const IGNORED: i32 = -100;

/// A stretch of a document: inputs and the id that follows each.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) inputs: Vec<u32>,
    pub(crate) labels: Vec<i32>,
}

/// Windows side by side; each attends to itself alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilledRow {
    pub(crate) inputs: Vec<u32>,
    labels: Vec<i32>,
    segments: Vec<u32>,
}

impl FilledRow {
    pub(crate) fn borrow(&self) -> Row<'_> {
        Row { input_ids: &self.inputs, labels: &self.labels, segments: &self.segments }
    }

    fn push(&mut self, window: Window) {
        self.segments.push(window.inputs.len() as u32);
        self.inputs.extend(window.inputs);
        self.labels.extend(window.labels);
    }
}

/// Windows of at most `length` positions that overlap by one id, so that every id but the first is a label once.
pub(crate) fn windows(document: &Document, length: usize) -> impl Iterator<Item = Window> + '_ {
    let ids = &document.ids;
    let end = ids.len().saturating_sub(1);
    (0..end).step_by(length).map(move |start| {
        let stop = (start + length).min(end);
        // The last id is EOS: it is an input to nothing and not measured.
        let measured = |position: usize| position >= document.unmeasured && position < end;
        let label = |position: usize| if measured(position) { ids[position] as i32 } else { IGNORED };
        Window { inputs: ids[start..stop].to_vec(), labels: (start + 1..=stop).map(label).collect() }
    })
}

/// Fills rows of at most `length` positions, the longest windows first, each into the first row that has room.
pub(crate) fn fill_rows(mut windows: Vec<Window>, length: usize) -> Vec<FilledRow> {
    windows.sort_by_key(|window| std::cmp::Reverse(window.inputs.len()));
    let mut rows: Vec<FilledRow> = Vec::new();
    let mut open = 0;
    for window in windows {
        while rows.get(open).is_some_and(|row| row.inputs.len() == length) {
            open += 1;
        }
        let place = rows.iter().skip(open).position(|row| row.inputs.len() + window.inputs.len() <= length);
        match place {
            Some(offset) => rows[open + offset].push(window),
            None => {
                rows.push(FilledRow::default());
                if let Some(row) = rows.last_mut() {
                    row.push(window);
                }
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_document(count: u32, unmeasured: usize) -> Document {
        Document { ids: (0..count).collect(), unmeasured, text_bytes: 1 }
    }

    #[test]
    fn every_measured_id_is_a_label_once_and_the_last_never() {
        for length in 1..12 {
            let labels: Vec<i32> = windows(&mk_document(10, 3), length)
                .inspect(|window| assert!(window.inputs.len() <= length && window.inputs.len() == window.labels.len()))
                .flat_map(|window| window.labels)
                .filter(|label| *label != IGNORED)
                .collect();
            assert_eq!(labels, (3..9).collect::<Vec<i32>>(), "windows of {length}");
        }
    }

    #[test]
    fn rows_hold_every_window_and_no_more_than_their_length() {
        let all: Vec<Window> =
            (2..30).flat_map(|count| windows(&mk_document(count, 1), 16).collect::<Vec<_>>()).collect();
        let positions: usize = all.iter().map(|window| window.inputs.len()).sum();
        let rows = fill_rows(all, 16);
        assert!(rows.iter().all(|row| row.inputs.len() <= 16));
        assert_eq!(rows.iter().map(|row| row.inputs.len()).sum::<usize>(), positions);
    }
}
