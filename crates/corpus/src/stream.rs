//! A dataset's stream: all its documents in a seeded order, then again in another, and so on.

use palimpsest_random::Stream;

/// The stream of a dataset, and where the job stands in it.
pub(crate) struct DatasetStream {
    seed: u64,
    purpose: String,
    /// How many documents an epoch has.
    count: u32,
    /// How many documents of the stream the stages before have passed.
    position: u64,
    /// How often the stages before have used each document.
    uses: Vec<u32>,
    /// The order of the epoch that was asked for last.
    order: Option<(u64, Vec<u32>)>,
}

/// A stretch of a stream, not yet taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretch {
    /// Where it begins in the stream.
    pub(crate) start: u64,
    /// Its documents.
    pub(crate) documents: Vec<u32>,
    /// The sum of their lengths.
    pub(crate) tokens: u64,
    /// Whether it ends because the next document has been used as often as it may.
    pub(crate) is_exhausted: bool,
}

impl DatasetStream {
    /// The stream of a dataset of `count` documents. It depends on the dataset's name and not on the others.
    pub(crate) fn new(seed: u64, dataset: &str, count: u32) -> Self {
        let purpose = format!("document order of {dataset}");
        Self { seed, purpose, count, position: 0, uses: vec![0; count as usize], order: None }
    }

    /// Goes back to the beginning of the stream; what was used stays counted.
    pub(crate) fn restart(&mut self) {
        self.position = 0;
    }

    /// How often each document was used.
    pub(crate) fn uses(&self) -> &[u32] {
        &self.uses
    }

    /// The next documents, until their tokens are `tokens` or more, or the next one has been used `most_uses` times.
    pub(crate) fn look_ahead(&mut self, tokens: u64, most_uses: u32, length: impl Fn(u32) -> u32) -> Stretch {
        let mut stretch = Stretch { start: self.position, ..Stretch::default() };
        let mut position = self.position;
        while stretch.tokens < tokens {
            let document = self.document_at(position);
            if self.uses[document as usize] >= most_uses {
                stretch.is_exhausted = true;
                break;
            }
            self.uses[document as usize] += 1;
            stretch.documents.push(document);
            stretch.tokens += u64::from(length(document));
            position += 1;
        }
        for document in &stretch.documents {
            self.uses[*document as usize] -= 1;
        }
        stretch
    }

    /// The next `epochs` whole epochs: where the stages before stopped inside one, its rest is passed over, so that every
    /// document comes exactly that often.
    pub(crate) fn whole_epochs(&mut self, epochs: u32, length: impl Fn(u32) -> u32) -> Stretch {
        let first = self.position.div_ceil(u64::from(self.count));
        let mut stretch = Stretch { start: first * u64::from(self.count), ..Stretch::default() };
        for epoch in first..first + u64::from(epochs) {
            stretch.documents.extend_from_slice(self.order_of(epoch));
        }
        stretch.tokens = stretch.documents.iter().map(|document| u64::from(length(*document))).sum();
        stretch
    }

    /// Takes the first `count` documents of a stretch.
    pub(crate) fn take(&mut self, stretch: &Stretch, count: usize) {
        for document in &stretch.documents[..count] {
            self.uses[*document as usize] += 1;
        }
        self.position = stretch.start + count as u64;
    }

    fn document_at(&mut self, position: u64) -> u32 {
        let count = u64::from(self.count);
        self.order_of(position / count)[(position % count) as usize]
    }

    fn order_of(&mut self, epoch: u64) -> &[u32] {
        let is_there = self.order.as_ref().is_some_and(|(there, _)| *there == epoch);
        if !is_there {
            self.order = None;
            let mut order: Vec<u32> = (0..self.count).collect();
            Stream::new(self.seed, &self.purpose, &[epoch]).shuffle(&mut order);
            self.order = Some((epoch, order));
        }
        self.order.as_ref().map_or(&[], |(_, order)| order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_stream() -> DatasetStream {
        DatasetStream::new(7, "zh", 10)
    }

    #[test]
    fn epochs_are_different_orders_of_all_documents() {
        let mut stream = mk_stream();
        let stretch = stream.look_ahead(40, 4, |_| 1);
        let epochs: Vec<&[u32]> = stretch.documents.chunks(10).collect();
        assert_eq!(epochs.len(), 4);
        assert_ne!(epochs[0], epochs[1]);
        for epoch in epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
        }
        assert!(!stretch.is_exhausted);
        assert!(stream.look_ahead(41, 4, |_| 1).is_exhausted);
    }

    #[test]
    fn a_stage_goes_on_where_the_one_before_stopped_or_restarts() {
        let mut stream = mk_stream();
        let all = stream.look_ahead(20, 4, |_| 1).documents;
        let first = stream.look_ahead(6, 4, |_| 1);
        stream.take(&first, 6);
        let second = stream.look_ahead(6, 4, |_| 1);
        assert_eq!(second.documents, all[6..12]);
        stream.restart();
        let restarted = stream.look_ahead(10, 1, |_| 1);
        assert_eq!((restarted.documents.len(), restarted.is_exhausted), (0, true), "its first document was used");
        assert_eq!(stream.look_ahead(6, 2, |_| 1).documents, all[..6]);
    }

    #[test]
    fn whole_epochs_begin_at_an_epoch() {
        let mut stream = mk_stream();
        let all = stream.look_ahead(30, 4, |_| 1).documents;
        let first = stream.look_ahead(6, 4, |_| 1);
        stream.take(&first, 6);
        let epoch = stream.whole_epochs(1, |_| 1);
        assert_eq!(epoch.documents, all[10..20]);
        stream.take(&epoch, 10);
        assert_eq!(stream.look_ahead(5, 4, |_| 1).documents, all[20..25]);
    }
}
