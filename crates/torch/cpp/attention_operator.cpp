// Causal attention over tensors: checks shapes, and splits segments and heads among libtorch's threads.
#include "guard.h"
#include "share.h"
#include "tensors.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <vector>

using namespace palimpsest;

namespace {

// Where segments and heads lie. All tensors have a row for each token; the columns of `columns` are query heads, key heads, value
// heads.
struct Layout {
  std::vector<int64_t> bounds;
  int64_t queries, keys, width;
  at::Tensor columns;

  int64_t segments() const { return static_cast<int64_t>(bounds.size()) - 1; }
  // A pair of a segment and a key head is a task.
  int64_t tasks() const { return segments() * keys; }
  int64_t length(int64_t task) const { return bounds[task / keys + 1] - bounds[task / keys]; }
  double cost(int64_t task) const {
    const auto tokens = static_cast<double>(length(task));
    return tokens * tokens;
  }
  int64_t longest() const {
    int64_t longest = 0;
    for (int64_t segment = 0; segment < segments(); ++segment) {
      longest = std::max(longest, bounds[segment + 1] - bounds[segment]);
    }
    return longest;
  }

  int64_t group() const { return queries / keys; }

  Segment segment(int64_t task, const at::Tensor& out, const at::Tensor& log_sums) const {
    Segment segment = {};
    segment.length = length(task);
    segment.width = width;
    segment.group = group();
    segment.stride = columns.size(1);
    segment.out_stride = out.size(1);
    segment.heads = queries;
    segment.query = query(columns, task);
    segment.key = key(columns, task);
    segment.value = value(columns, task);
    segment.out = query(out, task);
    segment.log_sums = at(log_sums, task, task % keys * group());
    return segment;
  }

  // Where a task's heads begin in a tensor that is laid out as the columns are; outputs lie as queries do.
  char* query(const at::Tensor& tensor, int64_t task) const { return at(tensor, task, task % keys * group() * width); }
  char* key(const at::Tensor& tensor, int64_t task) const { return at(tensor, task, (queries + task % keys) * width); }
  char* value(const at::Tensor& tensor, int64_t task) const {
    return at(tensor, task, (queries + keys + task % keys) * width);
  }

  char* at(const at::Tensor& tensor, int64_t task, int64_t column) const {
    return static_cast<char*>(tensor.data_ptr()) +
           (bounds[task / keys] * tensor.size(1) + column) * static_cast<int64_t>(tensor.element_size());
  }
};

Layout layout(const at::Tensor& columns, const int64_t* bounds, int64_t count, int64_t queries, int64_t keys,
              int64_t width) {
  check(columns, "query_key_value");
  TORCH_CHECK(keys > 0 && width > 0 && queries % keys == 0 && columns.dim() == 2 &&
                  columns.size(1) == (queries + 2 * keys) * width,
              "attention takes query_key_value [tokens, (queries + 2 * keys) * width]");
  Layout layout = {std::vector<int64_t>(bounds, bounds + count), queries, keys, width, columns};
  bool is_whole = count > 0 && bounds[0] == 0 && bounds[count - 1] == columns.size(0);
  for (int64_t index = 1; index < count; ++index) is_whole = is_whole && bounds[index - 1] < bounds[index];
  TORCH_CHECK(is_whole, "attention's segments must follow one another and hold all tokens");
  return layout;
}

}  // namespace

extern "C" {

// query_key_value: [tokens, (queries + 2 * keys) * width]; bounds: where the segments begin, and the end of the last. out: [tokens,
// queries * width]; log_sums: [tokens, queries] in the accumulation type.
char* palimpsest_attention(at::Tensor* query_key_value, const int64_t* bounds, int64_t bound_count, int64_t queries,
                           int64_t keys, int64_t width, at::Tensor** out_tensor, at::Tensor** log_sums_out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    const auto places = layout(*query_key_value, bounds, bound_count, queries, keys, width);
    const auto type = query_key_value->scalar_type();
    auto out = at::empty({query_key_value->size(0), queries * width}, query_key_value->options());
    auto log_sums = at::empty({query_key_value->size(0), queries}, out.options().dtype(accumulation_type(type)));
    const auto& kernels = attention_kernels_for(type);
    // Where there are few segments and heads, several threads share one.
    const int64_t threads = at::get_num_threads();
    const int64_t parts = (threads + places.tasks() - 1) / places.tasks();
    const auto cost = [&](int64_t item) { return places.cost(item / parts); };
    const auto scratch_bytes = kernels.forward_scratch(places.longest(), width);
    share(places.tasks() * parts, scratch_bytes, cost, [&](int64_t item, char* scratch) {
      kernels.forward(places.segment(item / parts, out, log_sums), item % parts, parts, scratch);
    });
    *out_tensor = new at::Tensor(std::move(out));
    *log_sums_out = new at::Tensor(std::move(log_sums));
  });
}

// The gradient of query_key_value, from that of `out` and what the forward pass gave.
char* palimpsest_attention_backward(at::Tensor* d_out, at::Tensor* query_key_value, at::Tensor* out,
                                    at::Tensor* log_sums, const int64_t* bounds, int64_t bound_count, int64_t queries,
                                    int64_t keys, int64_t width, at::Tensor** gradient_out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    const auto places = layout(*query_key_value, bounds, bound_count, queries, keys, width);
    check(*out, "out");
    check_like(*d_out, *out, "d_out");
    check(*log_sums, "log_sums");
    const auto type = query_key_value->scalar_type();
    TORCH_CHECK(out->dim() == 2 && out->size(0) == query_key_value->size(0) && out->size(1) == queries * width &&
                    out->scalar_type() == type && log_sums->dim() == 2 && log_sums->size(0) == out->size(0) &&
                    log_sums->size(1) == queries && log_sums->scalar_type() == accumulation_type(type),
                "attention_backward takes out [tokens, queries * width] and log_sums [tokens, queries]");
    auto gradient = at::empty(query_key_value->sizes(), query_key_value->options());
    const auto& kernels = attention_kernels_for(type);
    const auto cost = [&](int64_t task) { return places.cost(task); };
    share(places.tasks(), kernels.backward_scratch(places.longest(), width), cost, [&](int64_t task, char* scratch) {
      Segment segment = places.segment(task, *out, *log_sums);
      segment.d_out = places.query(*d_out, task);
      segment.d_query = places.query(gradient, task);
      segment.d_key = places.key(gradient, task);
      segment.d_value = places.value(gradient, task);
      kernels.backward(segment, scratch);
    });
    *gradient_out = new at::Tensor(std::move(gradient));
  });
}

}  // extern "C"
