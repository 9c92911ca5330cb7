//! The shim's C functions, and how tensors and messages pass to and fro.
//!
//! A tensor passes as tch's own pointer, which is an `at::Tensor*`. Each function returns null or a message that we free.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::Tensor;

use crate::{Error, Result};

/// tch's `*mut C_tensor`: an `at::Tensor*`.
pub(crate) type Raw = *mut c_void;

/// An `at::RecordFunction*`, or null.
pub(crate) type Range = *mut c_void;

unsafe extern "C" {
    fn palimpsest_free_string(text: *mut c_char);
    fn palimpsest_free_tensor(tensor: Raw);
    pub(crate) fn palimpsest_version() -> *const c_char;
    pub(crate) fn palimpsest_cpu_capability(name: *mut *mut c_char) -> *mut c_char;
    pub(crate) fn palimpsest_threads() -> c_int;
    pub(crate) fn palimpsest_set_threads(threads: c_int) -> *mut c_char;
    pub(crate) fn palimpsest_set_deterministic(deterministic: bool) -> *mut c_char;
    pub(crate) fn palimpsest_count_operators(begin: bool, count: *mut u64) -> *mut c_char;
    pub(crate) fn palimpsest_device_memory(
        device_type: c_int,
        index: c_int,
        allocated: *mut i64,
        peak: *mut i64,
        reserved: *mut i64,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_reset_device_peak(device_type: c_int, index: c_int) -> *mut c_char;

    pub(crate) fn palimpsest_range_begin(name: *const c_char, range: *mut Range) -> *mut c_char;
    pub(crate) fn palimpsest_range_end(range: Range);
    pub(crate) fn palimpsest_profiler_begin(cuda: bool) -> *mut c_char;
    pub(crate) fn palimpsest_profiler_end(path: *const c_char) -> *mut c_char;

    pub(crate) fn palimpsest_backward(outputs: *const Raw, gradients: *const Raw, count: usize) -> *mut c_char;
    pub(crate) fn palimpsest_grad(
        outputs: *const Raw,
        gradients: *const Raw,
        output_count: usize,
        inputs: *const Raw,
        input_count: usize,
        results: *mut Raw,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_set_gradient(tensor: Raw, gradient: Raw) -> *mut c_char;
    pub(crate) fn palimpsest_adamw_step(
        parameters: *const Raw,
        gradients: *const Raw,
        averages: *const Raw,
        square_averages: *const Raw,
        steps: *const Raw,
        count: usize,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        weight_decay: f64,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_total_norm(list: *const Raw, count: usize, result: *mut Raw) -> *mut c_char;
    pub(crate) fn palimpsest_scale(list: *const Raw, count: usize, factor: Raw) -> *mut c_char;

    pub(crate) fn palimpsest_rms_norm(x: Raw, weight: Raw, epsilon: f64, y: *mut Raw, rstd: *mut Raw) -> *mut c_char;
    pub(crate) fn palimpsest_rms_norm_backward(
        dy: Raw,
        x: Raw,
        weight: Raw,
        rstd: Raw,
        residual: Raw,
        weight_gradient: Raw,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_rotate(
        source: Raw,
        target: Raw,
        offset: i64,
        cosine: Raw,
        sine: Raw,
        position_ids: Raw,
        sign: f64,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_swiglu(gate_up: Raw, out: *mut Raw) -> *mut c_char;
    pub(crate) fn palimpsest_swiglu_backward(d_out: Raw, gate_up: Raw) -> *mut c_char;
    pub(crate) fn palimpsest_cross_entropy(
        logits: Raw,
        labels: Raw,
        scale: f64,
        gradient: bool,
        losses: *mut Raw,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_attention(
        query_key_value: Raw,
        bounds: *const i64,
        bound_count: i64,
        queries: i64,
        keys: i64,
        width: i64,
        out: *mut Raw,
        log_sums: *mut Raw,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_attention_backward(
        d_out: Raw,
        query_key_value: Raw,
        out: Raw,
        log_sums: Raw,
        bounds: *const i64,
        bound_count: i64,
        queries: i64,
        keys: i64,
        width: i64,
        gradient: *mut Raw,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_cached_attention(
        query_key_value: Raw,
        cached_keys: Raw,
        cached_values: Raw,
        spans: *const i64,
        span_count: i64,
        blocks: *const i32,
        block_count: i64,
        queries: i64,
        keys: i64,
        width: i64,
        out: *mut Raw,
    ) -> *mut c_char;
    pub(crate) fn palimpsest_embedding_backward(gradient: Raw, ids: Raw, d: Raw, skipped: i64) -> *mut c_char;
}

/// The pointer by which C++ knows a tensor. Valid as long as `tensor` lives; C++ never keeps it.
pub(crate) fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast_mut().cast()
}

/// The pointers of a list of tensors.
pub(crate) fn raws<T: AsRef<Tensor>>(tensors: &[T]) -> Vec<Raw> {
    tensors.iter().map(|tensor| raw(tensor.as_ref())).collect()
}

/// Takes over a message that the shim made.
///
/// # Safety
/// `text` is null or a string from the shim that nothing else frees.
pub(crate) unsafe fn take_string(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, hence a NUL-terminated string made by strdup that is ours alone.
    unsafe {
        let message = CStr::from_ptr(text).to_string_lossy().into_owned();
        palimpsest_free_string(text);
        Some(message)
    }
}

/// The result that a returned message means.
///
/// # Safety
/// As of [`take_string`].
pub(crate) unsafe fn check(message: *mut c_char) -> Result<()> {
    // SAFETY: the caller's promise.
    match unsafe { take_string(message) } {
        None => Ok(()),
        Some(message) => Err(Error(message)),
    }
}

/// Takes over a tensor that the shim made; `None` where it is null.
///
/// # Safety
/// `tensor` is null or an `at::Tensor*` from `new` that nothing else frees.
pub(crate) unsafe fn take_tensor(tensor: Raw) -> Option<Tensor> {
    if tensor.is_null() {
        return None;
    }
    // SAFETY: not null, hence a live at::Tensor of ours; tch copies the handle and we free the original.
    unsafe {
        let copy = Tensor::clone_from_ptr(tensor.cast());
        palimpsest_free_tensor(tensor);
        Some(copy)
    }
}

/// Takes over a tensor that a kernel made.
pub(crate) fn made(tensor: Raw) -> Result<Tensor> {
    // SAFETY: the shim has just made it for us.
    unsafe { take_tensor(tensor) }.ok_or_else(|| Error("a kernel gave no result".into()))
}
