// Divides tasks of known cost among libtorch's threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace palimpsest {

// Has each thread do neighbouring tasks of about the same cost in all; `body` gets the task and the thread's scratch.
template <typename Cost, typename Body>
void share(int64_t tasks, int64_t scratch_bytes, const Cost& cost, const Body& body) {
  std::vector<double> until(tasks + 1, 0.0);
  for (int64_t task = 0; task < tasks; ++task) until[task + 1] = until[task] + cost(task);
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), tasks);
  const auto first_of = [&](int64_t thread) {
    if (thread == 0) return int64_t{0};
    const double begin = until[tasks] * static_cast<double>(thread) / static_cast<double>(threads);
    return static_cast<int64_t>(std::lower_bound(until.begin(), until.end(), begin) - until.begin());
  };
  at::parallel_for(0, threads, 1, [&](int64_t from, int64_t to) {
    const std::unique_ptr<char[]> scratch(new char[static_cast<size_t>(scratch_bytes)]);
    for (int64_t thread = from; thread < to; ++thread) {
      const int64_t end = thread + 1 == threads ? tasks : first_of(thread + 1);
      for (int64_t task = first_of(thread); task < end; ++task) body(task, scratch.get());
    }
  });
}

}  // namespace palimpsest
