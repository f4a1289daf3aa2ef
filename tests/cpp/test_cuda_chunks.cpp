// Dictionaries larger than a GPU's memory, or spread over several GPUs, without one: where what is placed, in which
// order chunks pass two buffers, and that codes found chunk by chunk and part by part have the CPU engine's bits.
#include <cstdio>
#include <functional>

#include "cuda/search/chunk_ring.hpp"
#include "cuda_panel.hpp"

namespace {

using namespace headscan::cuda;
using emulate::Found;
using emulate::Panel;
using emulate::Uploaded;
using headscan::CompOptions;
using headscan::kBlockAtoms;

CodeLayout layout_of(std::size_t rows, std::size_t width) {
  headscan::PackedLayout packed;
  packed.rows = rows;
  packed.width = width;
  return CodeLayout(packed, 0);
}

void what_fits_goes_into_device_memory() {
  const CodeLayout layout = layout_of(100000, 768);
  CHECK(image_bytes(layout) == layout.padded_rows() * (layout.row_bytes + 8) && layout.padded_rows() == 100096);
  const std::size_t rows = layout.rows * layout.width * 4, codes = image_bytes(layout), rotation = 768 * 768 * 4;

  const Placement whole = place(layout, rotation + codes + rows);
  CHECK(whole.codes_there && whole.rows_there && whole.chunks(layout.rows) == 1);
  CHECK(device_bytes(layout, whole) == rotation + codes + rows);

  const Placement codes_only = place(layout, rotation + codes + rows - 1);
  CHECK(codes_only.codes_there && !codes_only.rows_there && codes_only.chunks(layout.rows) == 1);
  CHECK(device_bytes(layout, codes_only) == rotation + codes);

  const Placement streamed = place(layout, rotation + codes - 1);
  CHECK(!streamed.codes_there && !streamed.rows_there && streamed.chunks(layout.rows) == 3);
  CHECK(streamed.chunk_rows % kTileAtoms == 0);

  const std::size_t tile = image_bytes(with_rows(layout, kTileAtoms));
  CHECK(place(layout, rotation + 2 * tile).chunk_rows == kTileAtoms);
  CHECK(throws_invalid_argument([&] { place(layout, rotation + 2 * tile - 1); }));
  CHECK(throws_invalid_argument([&] { place(layout, 0); }));
  CHECK(place(layout_of(std::size_t{1} << 30U, 64), std::size_t{16} << 30U).chunk_rows == kMostChunkRows);
}

// However little memory, it is never more than asked for, and chunks cover all atoms.
void placements_keep_within_their_memory() {
  for (const std::size_t rows : {1U, 64U, 127U, 129U, 5000U}) {
    const CodeLayout layout = layout_of(rows, 40);
    for (std::size_t bytes = 30000; bytes < 2000000; bytes += 7777) {
      const Placement placement = place(layout, bytes);
      const std::size_t chunks = placement.chunks(rows);
      CHECK(device_bytes(layout, placement) <= bytes);
      CHECK(chunks * placement.chunk_rows >= rows && (chunks - 1) * placement.chunk_rows < rows);
      CHECK(placement.codes_there == (chunks == 1));
    }
  }
}

void parts_are_the_atoms_they_say() {
  const Dictionary dictionary(grouped_rows(300, 20), 20, 1);
  const auto part = part_of(dictionary.views, 128, 172);
  CHECK(part.packed.rows == 172 && part.atoms.rows == 172 && part.atoms.row(0) == &dictionary.atoms[128 * 20]);
  CHECK(part.packed.scale == &dictionary.scale[128] && part.packed.blocks() == 3);
  CHECK(part.packed.codes == &dictionary.codes[2 * part.packed.block_bytes()]);
  for (const auto& [first, rows] : {std::pair<std::size_t, std::size_t>{32, 64}, {0, 0}, {128, 173}, {320, 1}}) {
    CHECK(throws_invalid_argument([&, at = first, count = rows] { part_of(dictionary.views, at, count); }));
  }
}

// Two streams whose operations run whenever their waits allow: the main one first wherever it can, or the other.
class Streams {
 public:
  void wait_for_main() { side_.push_back({main_.size(), {}}); }
  void let_main_wait() { main_.push_back({side_.size(), {}}); }
  void copy(std::size_t chunk, std::size_t buffer) {
    side_.push_back({0, [=] { buffers_[buffer] = static_cast<int>(chunk); }});
  }
  void work(std::size_t chunk, std::size_t buffer) {
    main_.push_back({0, [=] { CHECK(buffers_[buffer] == static_cast<int>(chunk)); }});
  }
  // Returns how many copies were made while main had work left that they did not wait for.
  std::size_t run(bool main_first) {
    std::size_t main = 0, side = 0, ahead = 0;
    while (main < main_.size() || side < side_.size()) {
      const bool main_can = main < main_.size() && main_[main].after <= side;
      const bool side_can = side < side_.size() && side_[side].after <= main;
      CHECK(main_can || side_can);
      if (main_can && (main_first || !side_can)) {
        if (main_[main].run) main_[main].run();
        ++main;
      } else {
        if (side_[side].run) {
          side_[side].run();
          if (main_can) ++ahead;
        }
        ++side;
      }
    }
    return ahead;
  }

 private:
  struct Operation {
    std::size_t after;  // operations of the other stream that must be done
    std::function<void()> run;
  };
  std::vector<Operation> main_, side_;
  int buffers_[2] = {-1, -1};
};

void every_chunk_is_there_while_it_is_searched() {
  for (const bool main_first : {true, false}) {
    for (std::size_t chunks = 1; chunks <= 5; ++chunks) {
      Streams streams;
      const std::size_t visits = 4 * chunks;
      ChunkRing<Streams> ring(streams, chunks, visits);
      for (std::size_t i = 0; i < visits; ++i) {
        const ChunkVisit visit = ring.next();
        CHECK(visit.chunk == i % chunks);
        streams.work(visit.chunk, visit.buffer);
        streams.work(visit.chunk, visit.buffer);
      }
      const std::size_t ahead = streams.run(main_first);
      CHECK(main_first || ahead >= visits - 2);  // copies overlap the work
    }
  }
}

// Chunks go to parts in turn, each part's search merged with the others'; their order changes from round to round.
void equals_the_cpu(std::vector<float> atoms, std::size_t width, std::size_t chunk_rows, std::size_t parts) {
  constexpr std::size_t kCount = 2, kPicks = 4;
  const Dictionary dictionary(std::move(atoms), width, 1);
  const auto x = random_unit_rows<double>(kCount, width, 9);
  CompOptions options;
  options.k = kPicks;
  options.threads = 1;
  const Codes expected = encode(x, dictionary.views, width, options);

  std::vector<Uploaded> chunks;
  for (std::size_t first = 0; first < dictionary.rows; first += chunk_rows) {
    chunks.emplace_back(dictionary, first, std::min(chunk_rows, dictionary.rows - first));
  }
  Panel panel(dictionary, kCount, kPicks, options.coherence);
  panel.start(x);
  for (std::size_t round = 0; round < kPicks; ++round) {
    Found others(parts - 1, kCount, width);
    panel.quantise();
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      const std::size_t turn = round % 2 == 0 ? i : chunks.size() - 1 - i, part = turn % parts;
      if (part > 0) {
        panel.search_beside(chunks[turn], others, part - 1, round);
      } else {
        panel.bound(chunks[turn]);
        panel.select(chunks[turn], panel.state.search(round), round);
      }
    }
    if (parts > 1) panel.merge(others, round);
    panel.take(round);
  }
  panel.equals(expected);
  for (std::size_t q = 0; q < kCount; ++q) CHECK(panel.state.rescored[q] >= static_cast<std::int64_t>(kPicks));
}

// `zeros` zero rows, then copies of one atom: ties.
std::vector<float> copies_of_one(std::size_t rows, std::size_t width, std::size_t zeros) {
  const auto atom = random_unit_rows<float>(1, width, 3);
  std::vector<float> values(zeros * width, 0.0F);
  for (std::size_t i = 0; i < rows; ++i) values.insert(values.end(), atom.begin(), atom.end());
  return values;
}

}  // namespace

int main() {
  try {
    what_fits_goes_into_device_memory();
    placements_keep_within_their_memory();
    parts_are_the_atoms_they_say();
    every_chunk_is_there_while_it_is_searched();
    equals_the_cpu(grouped_rows(300, 24), 24, 128, 1);
    equals_the_cpu(grouped_rows(270, 24), 24, 64, 3);
    equals_the_cpu(copies_of_one(130, 9, 0), 9, 64, 1);
    equals_the_cpu(copies_of_one(2, 9, 64), 9, 64, 2);  // a part whose two atoms are soon both picked
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
