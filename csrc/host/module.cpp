// zoomkern._host: page memory for Python. It links neither torch nor CUDA, so that it loads next to any of them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>

#include "maps.hpp"
#include "pages.hpp"

namespace py = pybind11;
using zoomkern::host::Limits;
using zoomkern::host::Pages;

namespace {

std::unique_ptr<Pages> make_pages(std::int64_t bytes, bool huge, int threads) {
  const py::gil_scoped_release unlocked;
  return std::make_unique<Pages>(bytes, huge, threads);
}

py::buffer_info buffer_of(Pages& pages) {
  return py::buffer_info(static_cast<std::uint8_t*>(pages.data()), static_cast<py::ssize_t>(pages.size()));
}

bool advise_random(const py::buffer& buffer) {
  const py::buffer_info info = buffer.request();
  py::ssize_t below = 0;
  py::ssize_t above = info.itemsize;
  for (py::ssize_t i = 0; i < info.ndim; ++i) {
    if (info.shape[i] == 0) return true;
    const py::ssize_t reach = (info.shape[i] - 1) * info.strides[i];
    below += std::min<py::ssize_t>(reach, 0);
    above += std::max<py::ssize_t>(reach, 0);
  }
  return zoomkern::host::advise_random(static_cast<const char*>(info.ptr) + below,
                                       static_cast<std::size_t>(above - below));
}

bool copy_tiles(const py::buffer& window, const py::buffer& map, const py::buffer& starts, std::size_t side,
                std::size_t top, std::size_t left) {
  const py::buffer_info to = window.request(true), from = map.request(), at = starts.request();
  const bool dense = to.ndim == 3 && to.strides[2] == to.itemsize && to.strides[1] == to.shape[2] * to.itemsize &&
                     to.strides[0] == to.shape[1] * to.strides[1];
  if (!dense) throw py::value_error("window must be [h, w, C] without gaps");
  if (top >= side || left >= side) throw py::value_error("top and left must lie in a tile");
  const auto under = [side](std::size_t first, py::ssize_t extent) {
    return static_cast<py::ssize_t>((first + static_cast<std::size_t>(extent) + side - 1) / side);
  };
  if (at.ndim != 2 || at.itemsize != 8 || at.shape[0] < under(top, to.shape[0]) ||
      at.shape[1] < under(left, to.shape[1])) {
    throw py::value_error("starts must be int64, one for each tile under the window");
  }
  const zoomkern::host::Window target{static_cast<char*>(to.ptr), static_cast<std::size_t>(to.shape[0]),
                                      static_cast<std::size_t>(to.shape[1]), static_cast<std::size_t>(to.strides[1])};
  const zoomkern::host::Tiles tiles{static_cast<const char*>(at.ptr), at.strides[0], at.strides[1], side, top, left};
  const py::gil_scoped_release unlocked;
  return zoomkern::host::copy_tiles(target, static_cast<const char*>(from.ptr),
                                    static_cast<std::size_t>(from.size * from.itemsize), tiles);
}

py::dict limits() {
  const Limits found = zoomkern::host::limits();
  py::dict result;
  result["page_size"] = found.page_size;
  result["huge_page_size"] = found.huge_page_size;
  result["huge_pages"] = found.huge_pages;
  result["memlock_soft"] = found.memlock_soft;
  result["memlock_hard"] = found.memlock_hard;
  result["page_locked"] = found.page_locked;
  return result;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Page memory that tensors can share without a copy.";

  py::class_<Pages>(m, "Pages", py::buffer_protocol(),
                    "Zero-filled memory of exactly `nbytes`, resident from the start and freed with its last user.\n\n"
                    "torch.frombuffer(pages, dtype=...) shares it and keeps it alive.")
      .def(py::init(&make_pages), py::arg("nbytes"), py::kw_only(), py::arg("huge") = true, py::arg("threads") = 0,
           "Maps and touches `nbytes` in `threads` threads (0: one per processor, eight at most).\n\n"
           "Raises ValueError for a bad argument, MemoryError where the memory is not there.")
      .def_buffer(&buffer_of)
      .def("__len__", &Pages::size)
      .def_property_readonly("nbytes", &Pages::size)
      .def_property_readonly("huge", &Pages::huge, "Whether the kernel was advised to use huge pages and agreed.")
      .def_property_readonly("address",
                             [](const Pages& pages) { return reinterpret_cast<std::uintptr_t>(pages.data()); })
      .def("__repr__", [](const Pages& pages) {
        return "Pages(nbytes=" + std::to_string(pages.size()) + ", huge=" + (pages.huge() ? "True" : "False") + ")";
      });

  m.def("advise_random", &advise_random, py::arg("buffer"),
        "Turns read-ahead off for the pages that hold `buffer`, a memory map; False where that is not possible.");
  m.def("copy_tiles", &copy_tiles, py::arg("window"), py::arg("map"), py::arg("starts"), py::arg("side"),
        py::arg("top"), py::arg("left"),
        "Fills `window` [h, w, C] from raw square tiles in a mapped file; `starts` [rows, columns] int64 has their "
        "first\n"
        "bytes. False where they are not all in memory, or were truncated; `window` may be written in part then.");
  m.def("limits", &limits,
        "Page size and huge page size in bytes, huge page mode, RLIMIT_MEMLOCK in bytes (None: unlimited or unknown),\n"
        "and whether Pages are page-locked.");
}
