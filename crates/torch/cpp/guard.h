// What every function of the shim shares: no C++ exception crosses into Rust, it becomes a message that Rust frees.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <string>
#include <vector>

namespace palimpsest {

template <typename Body>
char* guarded(Body body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

// A view of `count` pointers to tensors as a list that ATen takes: copies the handles, never the data.
inline std::vector<at::Tensor> tensors(at::Tensor* const* pointers, size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (size_t index = 0; index < count; ++index) {
    list.push_back(pointers[index] == nullptr ? at::Tensor() : *pointers[index]);
  }
  return list;
}

}  // namespace palimpsest
