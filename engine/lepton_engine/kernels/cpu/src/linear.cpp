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

int64_t padded_columns(DType dtype, const LinearWeight& weight) {
    const int64_t step = panel_step(dtype, weight.format);
    return (weight.k + step - 1) / step * step;
}

// Calls body(row of the weight, lane) for the rows of one panel.
template <class Body>
void for_each_row(const LinearWeight& weight, int64_t panel, Body&& body) {
    const int64_t width = weight.panel_columns();
    for (int64_t lane = 0; lane < kPanel; ++lane) {
        const int64_t column = panel * width + lane % width;
        if (column < weight.columns()) body(lane / width * weight.columns() + column, lane);
    }
}

// Elements that are stored as they are, `step` neighbours side by side.
template <class Element>
void pack_panel(const LinearWeight& weight, int64_t step, const char* rows, int64_t stride, int64_t panel, Element* out,
                Element offset) {
    for_each_row(weight, panel, [&](int64_t row, int64_t lane) {
        const Element* from = reinterpret_cast<const Element*>(rows + row * stride);
        for (int64_t i = 0; i < weight.k; ++i) out[(i / step * kPanel + lane) * step + i % step] = from[i] + offset;
    });
}

void pack_int4_panel(const LinearWeight& weight, const char* rows, int64_t stride, int64_t panel, uint8_t* out) {
    for_each_row(weight, panel, [&](int64_t row, int64_t lane) {
        const uint8_t* from = reinterpret_cast<const uint8_t*>(rows + row * stride);
        for (int64_t i = 0; i < weight.k; ++i) {
            const uint8_t value = from[i / 2] >> (i % 2 * 4) & 0xf;
            out[(i / 8 * kPanel + lane) * 4 + i % 4] |= value << (i % 8 / 4 * 4);
        }
    });
}

template <class Element>
void gather_row(const LinearWeight& weight, int64_t step, int64_t row, Element* out) {
    const Element* from = static_cast<const Element*>(weight.panels) +
                          row / kPanel * ((weight.k + step - 1) / step * step * kPanel) + row % kPanel * step;
    for (int64_t i = 0; i < weight.k; ++i) out[i] = from[i / step * kPanel * step + i % step];
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

int64_t panel_bytes(DType dtype, const LinearWeight& weight) {
    const int64_t elements = weight.num_panels() * padded_columns(dtype, weight) * kPanel;
    switch (weight.format) {
        case kInt4:
            return elements / 2;
        case kInt8:
        case kFloat8:
            return elements;
        default:
            return elements * element_bytes(dtype);
    }
}

void pack_panels(DType dtype, const LinearWeight& weight, const void* rows, int64_t stride, void* panels, int threads) {
    const int64_t step = panel_step(dtype, weight.format), bytes = panel_bytes(dtype, weight) / weight.num_panels();
    const char* from = static_cast<const char*>(rows);
    ask_for_large_pages(panels, panel_bytes(dtype, weight));
    parallel_ranges(threads, weight.num_panels(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; ++panel) {
            char* out = static_cast<char*>(panels) + panel * bytes;
            // int8 is stored plus 128, as the products of integers take it.
            std::memset(out, weight.format == kInt8 ? 128 : 0, bytes);
            if (weight.format == kInt4) {
                pack_int4_panel(weight, from, stride, panel, reinterpret_cast<uint8_t*>(out));
            } else if (weight.format == kInt8) {
                pack_panel<uint8_t>(weight, step, from, stride, panel, reinterpret_cast<uint8_t*>(out), 128);
            } else if (weight.format == kFloat8) {
                pack_panel<uint8_t>(weight, step, from, stride, panel, reinterpret_cast<uint8_t*>(out), 0);
            } else if (dtype == kFloat32) {
                pack_panel<uint32_t>(weight, step, from, stride, panel, reinterpret_cast<uint32_t*>(out), 0);
            } else {
                pack_panel<uint16_t>(weight, step, from, stride, panel, reinterpret_cast<uint16_t*>(out), 0);
            }
        }
    });
}

void pack_scales(const LinearWeight& weight, const float* numbers, float* out) {
    const int64_t groups = weight.groups();
    std::fill(out, out + weight.num_panels() * groups * kPanel, 0.0f);
    for (int64_t panel = 0; panel < weight.num_panels(); ++panel) {
        for_each_row(weight, panel, [&](int64_t row, int64_t lane) {
            for (int64_t group = 0; group < groups; ++group) {
                out[(panel * groups + group) * kPanel + lane] = numbers[row * groups + group];
            }
        });
    }
}

bool gather_rows(DType dtype, const LinearWeight& weight, const int64_t* ids, int64_t count, void* out) {
    const int64_t step = panel_step(dtype, kPlain);
    for (int64_t i = 0; i < count; ++i) {
        if (ids[i] < 0 || ids[i] >= weight.n) return false;
        if (dtype == kFloat32) {
            gather_row(weight, step, ids[i], static_cast<uint32_t*>(out) + i * weight.k);
        } else {
            gather_row(weight, step, ids[i], static_cast<uint16_t*>(out) + i * weight.k);
        }
    }
    return true;
}

void linear(const LinearCall& call, DType dtype, int threads) {
    const KernelTable& table = kernels();
    const int64_t row_bytes = table.linear_row_bytes[dtype](call);
    const LinearWeight& weight = call.weight;
    const int64_t wanted = kBlockBytes / (row_bytes ? row_bytes : weight.k * int64_t(element_bytes(dtype)) + 1);
    const int64_t block_rows = std::max<int64_t>(48, wanted / 24 * 24), panels = weight.num_panels();
    const int64_t blocks = (call.m + block_rows - 1) / block_rows;
    const int64_t worth = call.m * weight.n * weight.k / kThreadElements + 1;
    const int team = static_cast<int>(std::min<int64_t>(threads, worth));
    // All threads work at the same rows, each at panels of its own.
    const int64_t pieces = team == 1 ? 1 : std::min<int64_t>(panels, team * kPieces);
    const int64_t most = (call.m + blocks - 1) / std::max<int64_t>(blocks, 1);
    const int64_t rows_bytes = (row_bytes * most + 63) / 64 * 64, more_bytes = table.linear_scratch[dtype](call, most);
    std::atomic<int64_t> next{0};
    parallel(team, [&](int, int) {
        char* memory = nullptr;
        int64_t copied = -1;
        for (int64_t task = next.fetch_add(1); task < blocks * pieces; task = next.fetch_add(1)) {
            const int64_t block = task / pieces, piece = task % pieces;
            const int64_t begin = call.m * block / blocks, end = call.m * (block + 1) / blocks;
            if (!memory && rows_bytes + more_bytes) {
                memory = static_cast<char*>(scratch(Scratch::kOwn, rows_bytes + more_bytes));
            }
            char* more = memory + rows_bytes;
            if (row_bytes && copied != block) {
                table.linear_rows[dtype](call, begin, end, memory, more);
                copied = block;
            }
            table.linear[dtype](call, row_bytes ? memory : nullptr, more, begin, end, panels * piece / pieces,
                                panels * (piece + 1) / pieces);
        }
    });
}

}  // namespace lepton
