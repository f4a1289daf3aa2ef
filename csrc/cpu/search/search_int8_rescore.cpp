// The end of every round: float64 decides among the candidates; a list that grew too long takes the plain scan.
#include <algorithm>
#include <utility>

#include "cpu/search/search_f32.hpp"
#include "cpu/search/search_int8.hpp"
#include "cpu/search/search_int8_common.hpp"

namespace headscan {

void SearchInt8::take_candidates(const Panel& panel, std::size_t query, std::size_t block, std::uint64_t mask,
                                 Worker& worker) {
  for_each_bit(mask, [&](std::size_t bit) {
    const auto atom = static_cast<std::int64_t>(block * kBlockAtoms + bit);
    if (atom >= static_cast<std::int64_t>(packed_.rows) || worker.counts[query] > candidate_limit_) return;
    if (panel.has_picked(query, atom)) return;
    ++worker.counts[query];
    worker.candidates.push_back({static_cast<std::uint32_t>(query), atom});
  });
}

void SearchInt8::rescore(const Panel& panel, Pool& pool, std::int64_t* best) {
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
      scored.emplace_back(-exact(panel, query, atoms[i], workers_[worker]), atoms[i]);
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
}

// Keeps the best atoms of this round in front of those of earlier ones.
void SearchInt8::remember(std::size_t query, const std::vector<std::pair<double, std::int64_t>>& scored) {
  std::vector<std::int64_t> known;
  for (std::size_t i = 0; i < std::min(scored.size(), kPool); ++i) known.push_back(scored[i].second);
  for (const auto atom : pools_[query]) {
    if (known.size() < kPool && std::find(known.begin(), known.end(), atom) == known.end()) known.push_back(atom);
  }
  pools_[query] = std::move(known);
}

void SearchInt8::fall_back(const Panel& panel, const std::vector<std::uint8_t>& needed, Pool& pool,
                           std::int64_t* best) {
  std::vector<std::size_t> which;
  for (std::size_t q = 0; q < needed.size(); ++q) {
    if (needed[q] != 0) which.push_back(q);
  }
  if (which.empty()) return;
  const std::size_t width = packed_.width, n = which.size();
  std::vector<double> queries(n * width);
  std::vector<std::int64_t> picked(n * panel.picked_stride), picks(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::copy_n(panel.queries.row(which[i]), width, &queries[i * width]);
    std::copy_n(panel.picked + which[i] * panel.picked_stride, panel.picked_stride, &picked[i * panel.picked_stride]);
  }
  SearchF32 plain(rows_.atoms(), pool);
  plain.argmax({{queries.data(), n, width, width}, picked.data(), panel.picked_stride, panel.round}, pool,
               picks.data());
  for (std::size_t i = 0; i < n; ++i) best[which[i]] = picks[i];
  counters_.fallbacks += n;
}

}  // namespace headscan
