#include "shared_segment.h"

#include <link.h>

#include <algorithm>
#include <set>
#include <utility>

#include "executor.h"

namespace host_executor {
namespace {

// Makes sure that there is a segment, and ends it with a redzone.
thread_local Tail anchor;

std::set<std::pair<std::size_t, std::size_t>>& redzones() {
  static std::set<std::pair<std::size_t, std::size_t>> zones;  // offsets in the segment
  return zones;
}

struct Image {
  SharedSegment shared{};
  std::vector<Region> constants;
};

int inspect(dl_phdr_info* info, std::size_t, void* result) {
  Image& image = *static_cast<Image*>(result);
  const auto self = reinterpret_cast<std::uintptr_t>(&inspect);
  bool is_this_library = false;
  for (int k = 0; k < info->dlpi_phnum; ++k) {
    const auto& header = info->dlpi_phdr[k];
    is_this_library |=
        header.p_type == PT_LOAD && self - (info->dlpi_addr + header.p_vaddr) < header.p_memsz;
  }
  if (!is_this_library) return 0;
  for (int k = 0; k < info->dlpi_phnum; ++k) {
    const auto& header = info->dlpi_phdr[k];
    if (header.p_type == PT_TLS)
      image.shared = {static_cast<std::byte*>(info->dlpi_tls_data), header.p_memsz};
    if (header.p_type == PT_LOAD)
      image.constants.push_back(constant_region(
          "the library's constants", reinterpret_cast<void*>(info->dlpi_addr + header.p_vaddr),
          header.p_memsz));
  }
  return 1;
}

Image image() {
  anchor.bytes[0] = 0;
  Image result;
  dl_iterate_phdr(inspect, &result);
  return result;
}

void mark(Region& region, std::size_t begin, std::size_t end) {
  for (std::size_t k = begin; k < end; ++k) region.bytes[k].state = ByteState::kRedzone;
}

}  // namespace

SharedSegment shared_segment() { return image().shared; }

std::vector<Region>& library_constants() {
  static std::vector<Region> constants = image().constants;
  return constants;
}

Region fresh_shared_region(const SharedSegment& segment) {
  Region region = tracked_region("static shared memory", segment.begin, segment.size, true, false);
  const auto offset =
      static_cast<std::size_t>(reinterpret_cast<std::byte*>(&anchor) - segment.begin);
  mark(region, offset, offset + sizeof(anchor));
  for (const auto& [begin, end] : redzones()) mark(region, begin, end);
  return region;
}

void add_redzone(const void* begin, const void* end, Region& of_running_block) {
  const std::size_t from = reinterpret_cast<std::uintptr_t>(begin) - of_running_block.begin;
  const std::size_t to = reinterpret_cast<std::uintptr_t>(end) - of_running_block.begin;
  if (redzones().emplace(from, to).second) mark(of_running_block, from, to);
}

}  // namespace host_executor
