//! Documents to filters to bins to buckets to packed sequences. No torch.
