// Static __shared__ variables. They are thread_local to the host compiler, the one storage class
// that gathers the variables of templates and of plain functions in one segment of the library;
// the segment of the calling thread is the shared memory of the block that is running.
#pragma once

#include <cstddef>
#include <vector>

#include "memory.h"

namespace host_executor {

struct SharedSegment {
  std::byte* begin;
  std::size_t size;
};

SharedSegment shared_segment();

// The segment as a block finds it: nothing written, the redzones known so far in place.
Region fresh_shared_region(const SharedSegment& segment);

// Marks [begin, end) of the segment as no variable's, for the running block and all later ones.
void add_redzone(const void* begin, const void* end, Region& of_running_block);

// The constants and code of this library: what a kernel may read besides its arguments.
std::vector<Region>& library_constants();

}  // namespace host_executor
