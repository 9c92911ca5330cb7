// Attention over a cache, for tensors: checks shapes and blocks, and splits sequences and heads among libtorch's threads.
#include "guard.h"
#include "share.h"
#include "tensors.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

using namespace palimpsest;

namespace {

// Rows of a task, so that one long prompt is work for all threads.
constexpr int64_t kTaskRows = 64;

struct Task {
  CachedHead head;
  int64_t first, last;
};

}  // namespace

extern "C" {

// query_key_value: [tokens, (queries + 2 * keys) * width], the new tokens of the sequences, one after the other. Of each sequence,
// `spans` has the number of its new tokens, the position of the first, and the number of its blocks; those are in `blocks`, one sequence
// after the other. cached_keys: [blocks, keys, width, 32]; cached_values: [blocks, keys, 32, padded width]. out: [tokens, queries *
// width].
char* palimpsest_cached_attention(at::Tensor* query_key_value, at::Tensor* cached_keys, at::Tensor* cached_values,
                                  const int64_t* spans, int64_t span_count, const int32_t* blocks, int64_t block_count,
                                  int64_t queries, int64_t keys, int64_t width, at::Tensor** out_tensor) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    const auto& columns = *query_key_value;
    const auto type = columns.scalar_type();
    check(columns, "query_key_value");
    check(*cached_keys, "cached_keys");
    check(*cached_values, "cached_values");
    TORCH_CHECK(keys > 0 && width > 0 && queries % keys == 0 && columns.dim() == 2 &&
                    columns.size(1) == (queries + 2 * keys) * width,
                "cached_attention takes query_key_value [tokens, (queries + 2 * keys) * width]");
    const int64_t padded_width = (width + kBlock - 1) / kBlock * kBlock, held = cached_keys->size(0);
    TORCH_CHECK(cached_keys->scalar_type() == type && cached_values->scalar_type() == type &&
                    cached_keys->sizes() == at::IntArrayRef({held, keys, width, kBlock}) &&
                    cached_values->sizes() == at::IntArrayRef({held, keys, kBlock, padded_width}),
                "cached_attention takes keys [blocks, keys, width, ", kBlock, "] and values [blocks, keys, ", kBlock,
                ", padded width] of the kind of query_key_value");
    for (int64_t index = 0; index < block_count; ++index) {
      TORCH_CHECK(blocks[index] >= 0 && blocks[index] < held, "block ", blocks[index], " is none of ", held);
    }
    auto out = at::empty({columns.size(0), queries * width}, columns.options());
    const int64_t size = columns.element_size(), group = queries / keys;
    std::vector<CachedHead> heads;
    std::vector<Task> tasks;
    int64_t token = 0, block = 0;
    for (int64_t index = 0; index < span_count; ++index) {
      const int64_t tokens = spans[3 * index], position = spans[3 * index + 1], count = spans[3 * index + 2];
      TORCH_CHECK(tokens > 0 && position >= 0 && token + tokens <= columns.size(0) && block + count <= block_count &&
                      count * kBlock >= position + tokens,
                  "a sequence with ", tokens, " tokens from position ", position, " on has ", count, " blocks");
      for (int64_t key = 0; key < keys; ++key) {
        const auto column = [&](int64_t head) {
          return bytes(columns) + (token * columns.size(1) + head * width) * size;
        };
        CachedHead head = {};
        head.tokens = tokens, head.position = position;
        head.width = width, head.padded_width = padded_width, head.group = group;
        head.stride = columns.size(1), head.out_stride = queries * width;
        head.key_step = keys * width * kBlock, head.value_step = keys * kBlock * padded_width;
        head.query = column(key * group), head.key = column(queries + key), head.value = column(queries + keys + key);
        head.out = mutable_bytes(out) + (token * queries + key * group) * width * size;
        head.blocks = blocks + block;
        head.keys = mutable_bytes(*cached_keys) + key * width * kBlock * size;
        head.values = mutable_bytes(*cached_values) + key * kBlock * padded_width * size;
        heads.push_back(head);
        for (int64_t first = 0; first < tokens * group; first += kTaskRows) {
          tasks.push_back({head, first, std::min(first + kTaskRows, tokens * group)});
        }
      }
      token += tokens, block += count;
    }
    TORCH_CHECK(token == columns.size(0) && block == block_count, "the sequences must hold all tokens and blocks");
    const auto& kernels = cache_kernels_for(type);
    const auto stored = [&](int64_t index) { return static_cast<double>(heads[index].tokens); };
    share(static_cast<int64_t>(heads.size()), 0, stored, [&](int64_t index, char*) { kernels.store(heads[index]); });
    const auto cost = [&](int64_t index) {
      const Task& task = tasks[index];
      return static_cast<double>((task.last - task.first) * (task.head.position + task.last / group + 1));
    };
    const auto attend = [&](int64_t index, char* scratch) {
      kernels.attend(tasks[index].head, tasks[index].first, tasks[index].last, scratch);
    };
    share(static_cast<int64_t>(tasks.size()), kernels.scratch(width, padded_width), cost, attend);
    *out_tensor = new at::Tensor(std::move(out));
  });
}

}  // extern "C"
