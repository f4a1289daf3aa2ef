#include "cpu/search/rescore.hpp"

#include <algorithm>
#include <limits>

#include "cpu/search/coded_queries.hpp"
#include "cpu/search/search_f32.hpp"

namespace headscan {

Rescorer::Rescorer(std::size_t atoms, std::size_t width, const RowSource& rows, std::size_t panel_size,
                   const DenseKernels& kernels)
    : atoms_(atoms),
      width_(width),
      candidate_limit_(std::clamp<std::size_t>(atoms / 256, 1024, 4096)),
      rows_(rows),
      kernels_(kernels),
      known_(panel_size) {}

void Rescorer::begin(const Panel& panel, std::size_t workers) {
  workers_.resize(workers);
  for (Worker& worker : workers_) {
    worker.counts.assign(known_.size(), 0);
    worker.row.resize(width_);
  }
  if (panel.round == 0) {
    for (auto& atoms : known_) atoms.clear();
  }
}

double Rescorer::exact(const Panel& panel, std::size_t query, std::int64_t atom, std::size_t worker) {
  ++workers_[worker].rescored;
  return kernels_.exact_dot(rows_.fetch(atom, workers_[worker].row.data()), panel.queries.row(query), width_);
}

double Rescorer::best_of(const Panel& panel, std::size_t query, const std::vector<std::int64_t>& atoms,
                         std::size_t worker) {
  double best = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < atoms.size(); ++i) {
    if (i + 2 < atoms.size()) rows_.prefetch(atoms[i + 2]);
    if (!panel.has_picked(query, atoms[i])) best = std::max(best, exact(panel, query, atoms[i], worker));
  }
  return best;
}

double Rescorer::best_known(const Panel& panel, std::size_t query, std::size_t worker) {
  return best_of(panel, query, known_[query], worker);
}

void Rescorer::offer(const Panel& panel, std::size_t query, std::size_t block, std::uint64_t mask,
                     std::size_t worker_index) {
  Worker& worker = workers_[worker_index];
  for_each_bit(mask, [&](std::size_t bit) {
    const auto atom = static_cast<std::int64_t>(block * kBlockAtoms + bit);
    if (atom >= static_cast<std::int64_t>(atoms_) || worker.counts[query] > candidate_limit_) return;
    if (panel.has_picked(query, atom)) return;
    ++worker.counts[query];
    worker.candidates.push_back({static_cast<std::uint32_t>(query), atom});
  });
}

void Rescorer::decide(const Panel& panel, Pool& pool, std::int64_t* best) {
  const std::size_t count = panel.queries.rows;
  std::vector<std::size_t> ends(count + 1, 0);
  std::vector<std::uint8_t> overflowing(count, 0);
  for (const Worker& worker : workers_) {
    for (std::size_t q = 0; q < count; ++q) {
      ends[q + 1] += worker.counts[q];
      if (worker.counts[q] > candidate_limit_) overflowing[q] = 1;
    }
  }
  for (std::size_t q = 0; q < count; ++q) ends[q + 1] += ends[q];
  std::vector<std::int64_t> atoms(ends[count]);
  std::vector<std::size_t> next(ends.begin(), ends.end() - 1);
  for (Worker& worker : workers_) {
    for (const Candidate& candidate : worker.candidates) atoms[next[candidate.query]++] = candidate.atom;
    worker.candidates.clear();
  }
  rows_.announce(atoms);
  pool.run(count, [&](std::size_t query, std::size_t worker) {
    if (overflowing[query] != 0) return;
    std::vector<std::pair<double, std::int64_t>> scored;
    for (std::size_t i = ends[query]; i < ends[query + 1]; ++i) {
      if (i + 2 < ends[query + 1]) rows_.prefetch(atoms[i + 2]);
      scored.emplace_back(-exact(panel, query, atoms[i], worker), atoms[i]);
    }
    std::sort(scored.begin(), scored.end());  // highest score first, ties by index
    if (scored.empty()) {
      overflowing[query] = 1;  // no score was known to compare with: scan plainly
      return;
    }
    best[query] = scored.front().second;
    remember(query, scored);
  });
  fall_back(panel, overflowing, pool, best);
  for (Worker& worker : workers_) rescored_ += std::exchange(worker.rescored, 0);
}

// Keeps the best atoms of this round in front of those of earlier ones.
void Rescorer::remember(std::size_t query, const std::vector<std::pair<double, std::int64_t>>& scored) {
  std::vector<std::int64_t> known;
  for (std::size_t i = 0; i < std::min(scored.size(), kKnownAtoms); ++i) known.push_back(scored[i].second);
  for (const auto atom : known_[query]) {
    if (known.size() < kKnownAtoms && std::find(known.begin(), known.end(), atom) == known.end()) {
      known.push_back(atom);
    }
  }
  known_[query] = std::move(known);
}

void Rescorer::fall_back(const Panel& panel, const std::vector<std::uint8_t>& needed, Pool& pool,
                         std::int64_t* best) {
  std::vector<std::size_t> which;
  for (std::size_t q = 0; q < needed.size(); ++q) {
    if (needed[q] != 0) which.push_back(q);
  }
  if (which.empty()) return;
  const std::size_t n = which.size();
  std::vector<double> queries(n * width_);
  std::vector<std::int64_t> picked(n * panel.picked_stride), picks(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::copy_n(panel.queries.row(which[i]), width_, &queries[i * width_]);
    std::copy_n(panel.picked + which[i] * panel.picked_stride, panel.picked_stride, &picked[i * panel.picked_stride]);
  }
  SearchF32 plain(rows_.atoms(), kernels_, pool);
  plain.argmax({{queries.data(), n, width_, width_}, picked.data(), panel.picked_stride, panel.round}, pool,
               picks.data());
  for (std::size_t i = 0; i < n; ++i) best[which[i]] = picks[i];
  fallbacks_ += n;
}

}  // namespace headscan
