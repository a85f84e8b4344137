#include "parallel.h"

#include <cstdlib>
#include <new>

namespace lepton {

namespace {

OpenMP openmp{};

struct Team {
    void (*body)(void*, int, int);
    void* data;
};

void enter(void* team) {
    const Team& t = *static_cast<Team*>(team);
    t.body(t.data, openmp.thread(), openmp.team());
}

struct Buffer {
    void* memory = nullptr;
    size_t bytes = 0;

    ~Buffer() { std::free(memory); }

    void* at_least(size_t wanted) {
        if (wanted > bytes) {
            std::free(memory);
            bytes = (wanted + wanted / 2 + 4095) / 4096 * 4096;  // grows in steps, not at every longer sequence
            memory = std::aligned_alloc(4096, bytes);
            if (!memory) {
                bytes = 0;
                throw std::bad_alloc();
            }
        }
        return memory;
    }
};

}  // namespace

void set_openmp(const OpenMP& entry_points) { openmp = entry_points; }

void run_team(int threads, void (*body)(void*, int, int), void* data) {
    if (threads <= 1 || !openmp.parallel) {
        body(data, 0, 1);
        return;
    }
    Team team{body, data};
    openmp.parallel(enter, &team, static_cast<unsigned>(threads), 0);
}

void* scratch(Scratch purpose, size_t bytes) {
    thread_local Buffer buffers[2];
    return buffers[purpose == Scratch::kShared].at_least(bytes);
}

}  // namespace lepton
