// Small helpers over torch's stable tensors, shared by every operator's entry point.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <utility>

#include "../arguments/common.h"

namespace gencore {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline Dtype dtype_of(const Tensor& tensor, const char* op) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return Dtype::kFloat64;
    case ScalarType::Float:
      return Dtype::kFloat32;
    case ScalarType::BFloat16:
      return Dtype::kBFloat16;
    case ScalarType::Half:
      return Dtype::kFloat16;
    default:
      STD_TORCH_CHECK(false, op, ": expected a float64, float32, bfloat16 or float16 tensor");
  }
}

inline bool same_shape(const Tensor& a, const Tensor& b) {
  const auto left = a.sizes(), right = b.sizes();
  return std::equal(left.begin(), left.end(), right.begin(), right.end());
}

inline bool same_device(const Tensor& a, const Tensor& b) {
  return a.is_cpu() == b.is_cpu() && a.get_device_index() == b.get_device_index();
}

inline void check_matches(const Tensor& tensor, const Tensor& x, const char* op, const char* name) {
  STD_TORCH_CHECK(same_shape(tensor, x), op, ": ", name, " and x differ in shape");
  STD_TORCH_CHECK(tensor.scalar_type() == x.scalar_type(), op, ": ", name,
                  " and x differ in dtype");
  STD_TORCH_CHECK(same_device(tensor, x), op, ": ", name, " and x are on different devices");
}

inline void check_key(const Tensor& key, const Tensor& x, const char* op) {
  STD_TORCH_CHECK(key.scalar_type() == ScalarType::Long && key.dim() == 1 && key.numel() == 2 &&
                      key.is_contiguous(),
                  op, ": key must be a contiguous int64 tensor [seed, offset]");
  STD_TORCH_CHECK(same_device(key, x), op, ": key and x are on different devices");
}

// Asks for huge pages under a large, uninitialised CPU result, as NumPy does for its arrays: memory
// that malloc maps afresh at every call is otherwise faulted in 4 KiB at a time, which takes longer
// than the kernel that fills it.
inline Tensor with_huge_pages(Tensor out) {
#if defined(__linux__)
  constexpr std::uintptr_t kPage = 4096;
  const std::size_t bytes = static_cast<std::size_t>(out.numel()) * out.element_size();
  if (out.is_cpu() && bytes >= (std::size_t{1} << 22)) {
    const auto begin = reinterpret_cast<std::uintptr_t>(out.mutable_data_ptr());
    const std::uintptr_t page = (begin + kPage - 1) / kPage * kPage;
    madvise(reinterpret_cast<void*>(page), bytes - (page - begin), MADV_HUGEPAGE);  // only a hint
  }
#endif
  return out;
}

// An uninitialised result in the layout of `like`.
inline Tensor empty_result(const Tensor& like) {
  return with_huge_pages(torch::stable::empty_like(like));
}

inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline OptionalTensor as_contiguous(const OptionalTensor& tensor) {
  return tensor ? OptionalTensor(as_contiguous(*tensor)) : std::nullopt;
}

inline ScalarType accumulation_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// An uninitialised result with one entry a chain, which is the first dimension of x.
inline Tensor per_chain_result(const Tensor& x) {
  return torch::stable::new_empty(x, {x.size(0)}, accumulation_type(x));
}

// A result in the layout of `like`, for a kernel that writes contiguous memory.
class Result {
 public:
  explicit Result(const Tensor& like)
      : tensor_(empty_result(like)),
        written_(tensor_.is_contiguous() ? tensor_
                                         : empty_result(torch::stable::contiguous(like))) {}
  void* data() const { return written_.mutable_data_ptr(); }
  Tensor finish() {
    if (!tensor_.is_contiguous()) torch::stable::copy_(tensor_, written_);
    return tensor_;
  }

 private:
  Tensor tensor_;
  Tensor written_;
};

inline const void* data(const OptionalTensor& tensor) {
  return tensor ? tensor->const_data_ptr() : nullptr;
}

// Whether writing elements [0, n) of contiguous memory would change elements of an operand that are
// read later: the two share memory, but not element for element.
inline bool overwrites(const void* out, std::size_t out_bytes, const void* operand,
                       std::size_t bytes) {
  if (out == operand && out_bytes == bytes) return false;
  const auto from = reinterpret_cast<std::uintptr_t>(out);
  const auto operand_from = reinterpret_cast<std::uintptr_t>(operand);
  return from < operand_from + bytes && operand_from < from + out_bytes;
}

inline bool overwrites(const Tensor& out, const Tensor& operand) {
  if (!operand.is_contiguous()) return false;  // copied beforehand
  const auto bytes = [](const Tensor& t) {
    return static_cast<std::size_t>(t.numel()) * t.element_size();
  };
  return overwrites(out.const_data_ptr(), bytes(out), operand.const_data_ptr(), bytes(operand));
}

inline bool overwrites_any(const Tensor& out,
                           std::initializer_list<std::optional<Tensor>> operands) {
  return std::any_of(operands.begin(), operands.end(),
                     [&](const auto& operand) { return operand && overwrites(out, *operand); });
}

// A tensor argument of a boxed call, owned but not wrapped.
class Operand {
 public:
  explicit Operand(StableIValue value)
      : handle_(torch::stable::detail::to<AtenTensorHandle>(value)) {}
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;
  ~Operand() {
    if (handle_ != nullptr) aoti_torch_delete_tensor_object(handle_);
  }

  Tensor release() { return Tensor(std::exchange(handle_, nullptr)); }

  std::int32_t dtype() const { return get<std::int32_t>(aoti_torch_get_dtype); }
  std::int64_t numel() const { return get<std::int64_t>(aoti_torch_get_numel); }
  std::int64_t dim() const { return get<std::int64_t>(aoti_torch_get_dim); }
  bool is_contiguous() const { return get<bool>(aoti_torch_is_contiguous); }
  bool is_cpu() const {
    return get<std::int32_t>(aoti_torch_get_device_type) == aoti_torch_device_type_cpu();
  }
  void* mutable_data() const { return get<void*>(torch_get_mutable_data_ptr); }
  const void* const_data() const { return get<const void*>(torch_get_const_data_ptr); }
  bool same_shape(const Operand& other) const {
    return dim() == other.dim() && std::equal(sizes(), sizes() + dim(), other.sizes());
  }

 private:
  template <class T>
  T get(AOTITorchError (*getter)(AtenTensorHandle, T*)) const {
    T value{};
    TORCH_ERROR_CODE_CHECK(getter(handle_, &value));
    return value;
  }
  std::int64_t* sizes() const { return get<std::int64_t*>(aoti_torch_get_sizes); }

  AtenTensorHandle handle_;
};

}  // namespace gencore
