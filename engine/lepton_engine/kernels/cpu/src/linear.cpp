#include "linear.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstring>

#include "isa.h"
#include "parallel.h"

namespace lepton {

namespace {

constexpr int64_t kThreadElements = 65536;  // of the weight, that are worth a thread of their own
constexpr int64_t kPieces = 4;              // per thread, so that one which was held up does not hold up the other
constexpr int64_t kBlockBytes = 512 << 10;  // rows of x that are multiplied together: half of a usual second-level cache

size_t element_bytes(DType dtype) { return dtype == kFloat32 ? 4 : 2; }

// Calls body(row of the weight, first element of that row in the panels) for the rows of one panel.
template <class Body>
void for_each_row(int64_t panel, int64_t n, Epilogue epilogue, Body&& body) {
    const int64_t columns = epilogue == kSiluMul ? n / 2 : n, width = epilogue == kSiluMul ? kPanel / 2 : kPanel;
    for (int64_t lane = 0; lane < kPanel; ++lane) {
        const int64_t column = panel * width + lane % width;
        if (column < columns) body(lane / width * columns + column, lane);
    }
}

template <class Element>
void pack_panel(const Element* weight, int64_t stride, int64_t n, int64_t k, int64_t step, Epilogue epilogue,
                int64_t panel, Element* out) {
    std::memset(static_cast<void*>(out), 0, (k + step - 1) / step * step * kPanel * sizeof(Element));
    for_each_row(panel, n, epilogue, [&](int64_t row, int64_t lane) {
        const Element* from = weight + row * stride;
        for (int64_t i = 0; i < k; ++i) out[(i / step * kPanel + lane) * step + i % step] = from[i];
    });
}

template <class Element>
void gather_row(const Element* panels, int64_t k, int64_t step, int64_t row, Element* out) {
    const Element* from = panels + row / kPanel * ((k + step - 1) / step * step * kPanel) + row % kPanel * step;
    for (int64_t i = 0; i < k; ++i) out[i] = from[i / step * kPanel * step + i % step];
}

// Large pages, so that the stream of a weight crosses few page boundaries. A wish: without them it is only slower.
void ask_for_large_pages(void* memory, size_t bytes) {
#if defined(__linux__)
    constexpr uintptr_t kLarge = 2 << 20;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kLarge - 1) / kLarge * kLarge;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kLarge * kLarge;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

}  // namespace

bool linear_worthwhile(DType dtype) {
    // Not measured: processors without AVX2, and those whose matrix units torch's products use.
    return std::strcmp(kernels().name, "baseline") != 0 && (dtype == kFloat32 || !has_matrix_units());
}

int64_t panel_elements(DType dtype, int64_t n, int64_t k, Epilogue epilogue) {
    LinearCall call{};
    call.n = n;
    call.epilogue = epilogue;
    const int64_t step = panel_step(dtype);
    return call.num_panels() * ((k + step - 1) / step * step) * kPanel;
}

void pack_panels(DType dtype, const void* weight, int64_t weight_stride, int64_t n, int64_t k, Epilogue epilogue,
                 void* panels, int threads) {
    LinearCall call{};
    call.n = n;
    call.epilogue = epilogue;
    const int64_t step = panel_step(dtype), elements = (k + step - 1) / step * step * kPanel;
    ask_for_large_pages(panels, call.num_panels() * elements * element_bytes(dtype));
    parallel_ranges(threads, call.num_panels(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; ++panel) {
            if (dtype == kFloat32) {
                pack_panel(static_cast<const uint32_t*>(weight), weight_stride, n, k, step, epilogue, panel,
                           static_cast<uint32_t*>(panels) + panel * elements);
            } else {
                pack_panel(static_cast<const uint16_t*>(weight), weight_stride, n, k, step, epilogue, panel,
                           static_cast<uint16_t*>(panels) + panel * elements);
            }
        }
    });
}

bool gather_rows(DType dtype, const void* panels, int64_t n, int64_t k, const int64_t* ids, int64_t count, void* out) {
    for (int64_t i = 0; i < count; ++i) {
        if (ids[i] < 0 || ids[i] >= n) return false;
        if (dtype == kFloat32) {
            gather_row(static_cast<const uint32_t*>(panels), k, panel_step(dtype), ids[i],
                       static_cast<uint32_t*>(out) + i * k);
        } else {
            gather_row(static_cast<const uint16_t*>(panels), k, panel_step(dtype), ids[i],
                       static_cast<uint16_t*>(out) + i * k);
        }
    }
    return true;
}

void linear(const LinearCall& call, DType dtype, int threads) {
    const KernelTable& table = kernels();
    const int64_t row_bytes = table.linear_row_bytes[dtype](call);
    const int64_t wanted = kBlockBytes / static_cast<int64_t>(call.k * element_bytes(dtype) + 1);
    const int64_t block_rows = std::max<int64_t>(24, wanted / 24 * 24), panels = call.num_panels();
    const int64_t blocks = (call.m + block_rows - 1) / block_rows;
    const int64_t worth = call.m * call.n * call.k / kThreadElements + 1;
    const int team = static_cast<int>(std::min<int64_t>(threads, worth));
    // All threads work at the same rows, each at panels of its own.
    const int64_t pieces = team == 1 ? 1 : std::min<int64_t>(panels, team * kPieces);
    std::atomic<int64_t> next{0};
    parallel(team, [&](int, int) {
        void* rows = nullptr;
        int64_t copied = -1;
        for (int64_t task = next.fetch_add(1); task < blocks * pieces; task = next.fetch_add(1)) {
            const int64_t block = task / pieces, piece = task % pieces;
            const int64_t begin = call.m * block / blocks, end = call.m * (block + 1) / blocks;
            if (row_bytes && copied != block) {
                rows = scratch(Scratch::kOwn, row_bytes * (end - begin));
                table.linear_rows[dtype](call, begin, end, rows);
                copied = block;
            }
            table.linear[dtype](call, rows, begin, end, panels * piece / pieces, panels * (piece + 1) / pieces);
        }
    });
}

}  // namespace lepton
