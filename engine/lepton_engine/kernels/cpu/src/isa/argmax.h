// The largest value of a row and where it is first.
#pragma once

#include "vec.h"

namespace lepton::LEPTON_ISA {

constexpr int64_t kArgmaxBlock = 2048;  // of these only one is searched for the place

// Of count > 0 values. NaN counts as the largest.
inline void argmax(const float* row, int64_t count, float* best, int64_t* index) {
    float top = -__builtin_inff();
    int64_t block = 0;
    for (int64_t begin = 0; begin < count; begin += kArgmaxBlock) {
        const int64_t end = min_of(begin + kArgmaxBlock, count);
        Vec tops[4];
        VecInt unordered{};
        for (Vec& v : tops) v = broadcast(top);
        int64_t i = begin;
        for (; i + 4 * kWidth <= end; i += 4 * kWidth) {
            for (int j = 0; j < 4; ++j) {
                const Vec v = load(row + i + j * kWidth);
                tops[j] = max_vec(v, tops[j]);
                unordered |= v != v;
            }
        }
        float most = max_lanes(max_vec(max_vec(tops[0], tops[1]), max_vec(tops[2], tops[3])));
        bool nan = false;
        for (int lane = 0; lane < kWidth; ++lane) nan = nan || unordered[lane];
        for (; i < end; ++i) {
            most = row[i] > most ? row[i] : most;
            nan = nan || row[i] != row[i];
        }
        if (nan || most > top) {
            block = begin;
            top = nan ? __builtin_nanf("") : most;
        }
        if (nan) break;
    }
    int64_t at = block;
    const int64_t last = min_of(block + kArgmaxBlock, count) - 1;
    while (at < last && row[at] != top && (top == top || row[at] == row[at])) ++at;
    *best = top;
    *index = at;
}

}  // namespace lepton::LEPTON_ISA
