// The kernels over tensors: checks shapes, picks the instruction set, splits rows among libtorch's threads.
#include "guard.h"
#include "tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

using namespace palimpsest;

namespace {

// Rows for each task so that one is worth a thread's wake-up.
int64_t grain(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)); }

}  // namespace

extern "C" {

char* palimpsest_rms_norm(at::Tensor* x, at::Tensor* weight, double epsilon, at::Tensor** y_out,
                          at::Tensor** rstd_out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    check(*x, "x");
    check(*weight, "weight");
    TORCH_CHECK(x->dim() == 2 && weight->dim() == 1 && weight->size(0) == x->size(1) &&
                    weight->scalar_type() == x->scalar_type(),
                "rms_norm takes x [rows, width] and weight [width] of one kind");
    const int64_t rows = x->size(0), width = x->size(1);
    const auto accumulation = accumulation_type(x->scalar_type());
    auto y = at::empty(x->sizes(), x->options());
    auto rstd = at::empty({rows}, x->options().dtype(accumulation));
    const auto& kernels = kernels_for(x->scalar_type());
    const size_t size = x->element_size(), rstd_size = rstd.element_size();
    const char* x_bytes = bytes(*x);
    char *y_bytes = mutable_bytes(y), *rstd_bytes = mutable_bytes(rstd);
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      kernels.rms_norm(at_row(x_bytes, begin, width, size), bytes(*weight), at_row(y_bytes, begin, width, size),
                       at_row(rstd_bytes, begin, 1, rstd_size), end - begin, width, epsilon);
    });
    *y_out = new at::Tensor(std::move(y));
    *rstd_out = new at::Tensor(std::move(rstd));
  });
}

// residual += the gradient of x; weight_gradient (accumulation type) gains its own, where it is given.
char* palimpsest_rms_norm_backward(at::Tensor* dy, at::Tensor* x, at::Tensor* weight, at::Tensor* rstd,
                                   at::Tensor* residual, at::Tensor* weight_gradient) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    check(*x, "x");
    check_like(*dy, *x, "dy");
    check_like(*residual, *x, "residual");
    check(*weight, "weight");
    check(*rstd, "rstd");
    const auto accumulation = accumulation_type(x->scalar_type());
    const int64_t rows = x->size(0), width = x->size(1);
    TORCH_CHECK(x->dim() == 2 && rstd->numel() == rows && rstd->scalar_type() == accumulation &&
                    weight->numel() == width && weight->scalar_type() == x->scalar_type(),
                "rms_norm_backward takes x [rows, width], weight [width] and rstd [rows]");
    const auto& kernels = kernels_for(x->scalar_type());
    const size_t size = x->element_size(), rstd_size = rstd->element_size();
    // A fixed number of parts for given rows and threads, summed in order: the result does not depend on timing.
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), rows / grain(width)));
    at::Tensor partial;
    if (weight_gradient != nullptr) {
      check(*weight_gradient, "weight_gradient");
      TORCH_CHECK(weight_gradient->numel() == width && weight_gradient->scalar_type() == accumulation,
                  "the weight's gradient must be [width] of the accumulation kind");
      partial = at::zeros({parts, width}, x->options().dtype(accumulation));
    }
    const char *dy_bytes = bytes(*dy), *x_bytes = bytes(*x), *rstd_bytes = bytes(*rstd);
    char *residual_bytes = mutable_bytes(*residual),
         *partial_bytes = weight_gradient == nullptr ? nullptr : mutable_bytes(partial);
    at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; ++part) {
        const int64_t begin = rows * part / parts, end = rows * (part + 1) / parts;
        char* out = at_row(residual_bytes, begin, width, size);
        kernels.rms_norm_backward(at_row(dy_bytes, begin, width, size), at_row(x_bytes, begin, width, size),
                                  bytes(*weight), at_row(rstd_bytes, begin, 1, rstd_size), out, out,
                                  partial_bytes == nullptr ? nullptr : at_row(partial_bytes, part, width, rstd_size),
                                  end - begin, width);
      }
    });
    if (weight_gradient != nullptr) weight_gradient->add_(partial.sum(0));
  });
}

// Rotates heads from `source` [batch, positions, heads, width], which may be strided, to columns `offset..` of `target` [batch *
// positions, columns]. `source` may be a view of that place. cosine, sine: [table, width / 2]; position_ids: [batch * positions].
char* palimpsest_rotate(at::Tensor* source, at::Tensor* target, int64_t offset, at::Tensor* cosine, at::Tensor* sine,
                        at::Tensor* position_ids, double sign) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    check(*target, "target");
    TORCH_CHECK(source->dim() == 4 && source->device().is_cpu() && source->stride(3) == 1,
                "rotate takes a CPU source [batch, positions, heads, width] with contiguous width");
    const int64_t batch = source->size(0), positions = source->size(1), heads = source->size(2),
                  width = source->size(3);
    TORCH_CHECK(target->dim() == 2 && target->size(0) == batch * positions && offset >= 0 &&
                    offset + heads * width <= target->size(1) && target->scalar_type() == source->scalar_type(),
                "rotate's target must be [batch * positions, columns] of the source's kind");
    check(*cosine, "cosine");
    check_like(*sine, *cosine, "sine");
    check(*position_ids, "position_ids");
    TORCH_CHECK(width % 2 == 0 && cosine->dim() == 2 && cosine->size(1) == width / 2 &&
                    cosine->scalar_type() == accumulation_type(source->scalar_type()) &&
                    position_ids->scalar_type() == at::kLong && position_ids->numel() == batch * positions,
                "rotate takes cosine and sine [table, width / 2] and as many position ids as rows");
    const int64_t* ids = position_ids->const_data_ptr<int64_t>();
    const int64_t table = cosine->size(0);
    for (int64_t row = 0; row < batch * positions; ++row) {
      TORCH_CHECK(ids[row] >= 0 && ids[row] < table, "position ", ids[row], " is outside 0..", table);
    }
    const auto& kernels = kernels_for(source->scalar_type());
    const size_t size = source->element_size(), table_size = cosine->element_size();
    const int64_t batch_stride = source->stride(0), position_stride = source->stride(1),
                  head_stride = source->stride(2), columns = target->size(1);
    const char *source_bytes = bytes(*source), *cosine_bytes = bytes(*cosine), *sine_bytes = bytes(*sine);
    char* target_bytes = mutable_bytes(*target);
    at::parallel_for(0, batch * positions, grain(heads * width), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const char* from = source_bytes +
                           (row / positions * batch_stride + row % positions * position_stride) *
                               static_cast<int64_t>(size);
        char* to = target_bytes + (row * columns + offset) * static_cast<int64_t>(size);
        kernels.rotate(from, head_stride, to, heads, width, at_row(cosine_bytes, ids[row], width / 2, table_size),
                       at_row(sine_bytes, ids[row], width / 2, table_size), sign);
      }
    });
  });
}

char* palimpsest_swiglu(at::Tensor* gate_up, at::Tensor** out_tensor) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    check(*gate_up, "gate_up");
    TORCH_CHECK(gate_up->dim() == 2 && gate_up->size(1) % 2 == 0, "swiglu takes gate_up [rows, 2 * width]");
    const int64_t rows = gate_up->size(0), width = gate_up->size(1) / 2;
    auto out = at::empty({rows, width}, gate_up->options());
    const auto& kernels = kernels_for(gate_up->scalar_type());
    const size_t size = gate_up->element_size();
    const char* from = bytes(*gate_up);
    char* to = mutable_bytes(out);
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      kernels.swiglu(at_row(from, begin, 2 * width, size), at_row(to, begin, width, size), end - begin, width);
    });
    *out_tensor = new at::Tensor(std::move(out));
  });
}

// The gradient of gate_up takes its place.
char* palimpsest_swiglu_backward(at::Tensor* d_out, at::Tensor* gate_up) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    check(*gate_up, "gate_up");
    check(*d_out, "d_out");
    TORCH_CHECK(gate_up->dim() == 2 && d_out->dim() == 2 && gate_up->size(0) == d_out->size(0) &&
                    gate_up->size(1) == 2 * d_out->size(1) && gate_up->scalar_type() == d_out->scalar_type(),
                "swiglu_backward takes d_out [rows, width] and gate_up [rows, 2 * width]");
    const int64_t rows = d_out->size(0), width = d_out->size(1);
    const auto& kernels = kernels_for(gate_up->scalar_type());
    const size_t size = gate_up->element_size();
    const char* d_bytes = bytes(*d_out);
    char* gate_bytes = mutable_bytes(*gate_up);
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      char* place = at_row(gate_bytes, begin, 2 * width, size);
      kernels.swiglu_backward(at_row(d_bytes, begin, width, size), place, place, end - begin, width);
    });
  });
}

// losses: [rows] in the accumulation type. Where `gradient`, the logits become scale * (softmax - one-hot).
char* palimpsest_cross_entropy(at::Tensor* logits, at::Tensor* labels, double scale, bool gradient,
                               at::Tensor** losses_out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    check(*logits, "logits");
    check(*labels, "labels");
    TORCH_CHECK(logits->dim() == 2 && labels->dim() == 1 && labels->size(0) == logits->size(0) &&
                    labels->scalar_type() == at::kLong && logits->size(1) > 0,
                "cross_entropy takes logits [rows, width] and labels [rows]");
    const int64_t rows = logits->size(0), width = logits->size(1);
    const int64_t* ids = labels->const_data_ptr<int64_t>();
    for (int64_t row = 0; row < rows; ++row) {
      TORCH_CHECK(ids[row] >= 0 && ids[row] < width, "label ", ids[row], " is outside the vocabulary of ", width);
    }
    auto losses = at::empty({rows}, logits->options().dtype(accumulation_type(logits->scalar_type())));
    const auto& kernels = kernels_for(logits->scalar_type());
    const size_t size = logits->element_size(), loss_size = losses.element_size();
    char *logit_bytes = mutable_bytes(*logits), *loss_bytes = mutable_bytes(losses);
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      kernels.cross_entropy(at_row(logit_bytes, begin, width, size), ids + begin,
                            at_row(loss_bytes, begin, 1, loss_size), end - begin, width, scale, gradient);
    });
    *losses_out = new at::Tensor(std::move(losses));
  });
}

// gradient[ids[row]] += d[row] where the id is not `skipped`: split by columns, so that no two threads write one place and
// the order is fixed.
char* palimpsest_embedding_backward(at::Tensor* gradient, at::Tensor* ids, at::Tensor* d, int64_t skipped) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    check(*gradient, "gradient");
    check(*ids, "ids");
    check(*d, "d");
    TORCH_CHECK(gradient->dim() == 2 && d->dim() == 2 && gradient->size(1) == d->size(1) &&
                    ids->numel() == d->size(0) && ids->scalar_type() == at::kLong &&
                    gradient->scalar_type() == accumulation_type(d->scalar_type()),
                "embedding_backward takes gradient [vocabulary, width], ids [rows] and d [rows, width]");
    const int64_t rows = d->size(0), width = d->size(1);
    const int64_t* id = ids->const_data_ptr<int64_t>();
    for (int64_t row = 0; row < rows; ++row) {
      TORCH_CHECK(id[row] >= 0 && id[row] < gradient->size(0), "id ", id[row], " is outside the vocabulary of ",
                  gradient->size(0));
    }
    const auto& kernels = kernels_for(d->scalar_type());
    at::parallel_for(0, width, std::max<int64_t>(16, grain(rows)), [&](int64_t begin, int64_t end) {
      kernels.embedding_backward(gradient->mutable_data_ptr(), id, d->const_data_ptr(), rows, width, begin, end, skipped);
    });
  });
}

}  // extern "C"
