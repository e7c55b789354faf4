// Ops sample, draw_weights and sample_backward on the CPU.
#include "cpu/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/exact.hpp"
#include "core/philox.hpp"
#include "cpu/masses.hpp"
#include "cpu/weights.hpp"
#include "stable/complaints.hpp"

namespace zoomkern {

namespace {

constexpr int64_t kChunk = 16384;   // items of one task; a multiple of 64, so that chunks start at a group of words
constexpr int64_t kFewKeys = 256;   // that are ranked rather than sorted
constexpr int64_t kSmallRow = 256;  // items below which a race keeps everybody
constexpr double kInf = std::numeric_limits<double>::infinity();

int64_t chunks_of(int64_t items) { return std::max<int64_t>((items + kChunk - 1) / kChunk, 1); }
int64_t chunk_items(int64_t items, int64_t chunk) { return std::min(kChunk, items - chunk * kChunk); }

double score(const Scores& row, int64_t item) {
  if (row.mask && !row.mask[item]) return -kInf;
  switch (row.dtype) {
    case kFloat16:
      return to_float(static_cast<const Half*>(row.data)[item]);
    case kBfloat16:
      return to_float(static_cast<const Bfloat*>(row.data)[item]);
    case kFloat32:
      return static_cast<const float*>(row.data)[item];
    default:
      return static_cast<const double*>(row.data)[item];
  }
}

[[noreturn]] void report_wrong(const Scores& row, int64_t items, int64_t b) {
  int64_t item = 0;
  while (item < items && score(row, item) <= std::numeric_limits<double>::max()) ++item;
  throw std::runtime_error(complain_of_value(std::isnan(score(row, item)), b, item));
}

std::vector<RowStats> statistics(const Batch& batch) {
  const int64_t chunks = chunks_of(batch.items);
  std::vector<Scan> scans(batch.rows * chunks);
  std::vector<double> sums(scans.size());
  parallel(static_cast<int64_t>(scans.size()), [&](int64_t task) {
    const int64_t chunk = task % chunks, items = chunk_items(batch.items, chunk);
    const Scores part = batch.row(task / chunks).from(chunk * kChunk);
    scans[task] = kernels().scan(part, items);
    sums[task] = scans[task].drawable ? kernels().sum_exp(part, items, scans[task].max) : 0;
  });
  std::vector<RowStats> rows(batch.rows);
  for (int64_t b = 0; b < batch.rows; ++b) {
    const Scan* scan = scans.data() + b * chunks;
    const double* sum = sums.data() + b * chunks;
    double max = -kInf;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      if (scan[chunk].wrong) report_wrong(batch.row(b), batch.items, b);
      max = std::max(max, scan[chunk].max);
      rows[b].drawable += scan[chunk].drawable;
    }
    if (!rows[b].drawable) continue;
    rows[b].max = max;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      if (scan[chunk].drawable) rows[b].sum += sum[chunk] * exact::exp(scan[chunk].max - max);
    }
  }
  return rows;
}

struct Runner {
  double key;
  int64_t item;
};
constexpr auto ahead = [](const Runner& a, const Runner& b) {
  return a.key != b.key ? a.key > b.key : a.item < b.item;
};

// The race of one row: its bound rises until the winners are known to be among the survivors.
struct Race {
  int64_t row, draws;
  double bound, step = 16;
  Key key;

  Race(int64_t b, int64_t n, const RowStats& stats, Key k) : row(b), draws(n), key(k) {
    const double count = static_cast<double>(n);
    bound = (count + 3 * std::sqrt(count) + 8) / stats.sum;
  }
  bool everybody(int64_t items) const { return items <= kSmallRow || 8 * draws >= items || !(bound < 1e30); }
  void widen() {
    bound *= step;
    step *= step;
  }
};

// The draws largest keys of the survivors, in order; false if an item that was rejected might be among them.
bool finish(const Race& race, const Batch& batch, double max, const std::vector<int64_t>& items, bool all,
            int64_t* index) {
  const int64_t count = static_cast<int64_t>(items.size());
  if (count < race.draws) return false;
  std::vector<double> keys((count + 7) / 8 * 8);
  kernels().race_keys(batch.row(race.row), items.data(), count, max, race.key, keys.data());
  double least;  // key of the last winner
  if (count <= kFewKeys) {
    int64_t ranks[kFewKeys], order[kFewKeys];
    kernels().rank(keys.data(), count, ranks);
    for (int64_t i = 0; i < count; ++i) order[ranks[i]] = i;
    for (int64_t j = 0; j < race.draws; ++j) index[j] = items[order[j]];
    least = keys[order[race.draws - 1]];
  } else {
    std::vector<Runner> runners(count);
    for (int64_t i = 0; i < count; ++i) runners[i] = {keys[i], items[i]};
    std::partial_sort(runners.begin(), runners.begin() + race.draws, runners.end(), ahead);
    for (int64_t j = 0; j < race.draws; ++j) index[j] = runners[j].item;
    least = runners[race.draws - 1].key;
  }
  return all || least > -std::log(race.bound);
}

void run_races(std::vector<Race> races, const Batch& batch, const std::vector<RowStats>& stats, int64_t width,
               int64_t* index) {
  const int64_t chunks = chunks_of(batch.items);
  while (!races.empty()) {
    const int64_t open = static_cast<int64_t>(races.size());
    std::vector<std::vector<int64_t>> found(open * chunks);
    parallel(open * chunks, [&](int64_t task) {
      const Race& race = races[task / chunks];
      const int64_t first = task % chunks * kChunk, items = chunk_items(batch.items, task % chunks);
      const Scores row = batch.row(race.row);
      std::vector<int64_t>& out = found[task];
      if (race.everybody(batch.items)) {
        for (int64_t i = first; i < first + items; ++i) {
          if (score(row, i) > -kInf) out.push_back(i);
        }
        return;
      }
      thread_local std::vector<int64_t> buffer(kChunk);
      const double max = stats[race.row].max;
      const int64_t kept = kernels().survivors(row.from(first), first, items, max, race.bound, race.key, buffer.data());
      out.assign(buffer.begin(), buffer.begin() + kept);
    });
    std::vector<uint8_t> done(open);
    parallel(open, [&](int64_t r) {
      std::vector<int64_t> items = std::move(found[r * chunks]);
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        const std::vector<int64_t>& part = found[r * chunks + chunk];
        items.insert(items.end(), part.begin(), part.end());
      }
      const Race& race = races[r];
      const bool all = race.everybody(batch.items);
      done[r] = finish(race, batch, stats[race.row].max, items, all, index + race.row * width);
    });
    std::vector<Race> left;
    for (int64_t r = 0; r < open; ++r) {
      if (!done[r]) left.push_back(races[r]), left.back().widen();
    }
    races.swap(left);
  }
}

void draw_topk(const Scores& row, int64_t items, int64_t draws, int64_t* index) {
  std::vector<Runner> best;  // a heap whose front is the worst of the best
  thread_local std::vector<int64_t> found(kChunk);
  // Stretches double, so that a bound is known before most items are read.
  int64_t stretch = std::min(kChunk, std::max<int64_t>(2 * draws, 512));
  for (int64_t first = 0; first < items; first += stretch, stretch = std::min(2 * stretch, kChunk)) {
    const bool full = static_cast<int64_t>(best.size()) == draws;
    const double bound = full ? best.front().key : -kInf;
    const int64_t size = std::min(stretch, items - first);
    const int64_t count = kernels().above(row.from(first), first, size, bound, found.data());
    for (int64_t i = 0; i < count; ++i) {
      const Runner runner = {score(row, found[i]), found[i]};
      if (static_cast<int64_t>(best.size()) == draws) {
        if (!ahead(runner, best.front())) continue;
        std::pop_heap(best.begin(), best.end(), ahead);
        best.back() = runner;
      } else {
        best.push_back(runner);
      }
      std::push_heap(best.begin(), best.end(), ahead);
    }
  }
  std::sort_heap(best.begin(), best.end(), ahead);
  for (int64_t j = 0; j < draws; ++j) index[j] = best[j].item;
}

// The measured masses of every row that has something to draw.
std::vector<RowMasses> measure(const Batch& batch, const std::vector<RowStats>& stats, int64_t grid_width) {
  std::vector<RowMasses> rows;
  for (int64_t b = 0; b < batch.rows; ++b) {
    const int64_t items = stats[b].drawable ? batch.items : 0;
    rows.emplace_back(batch.row(b), items, stats[b].max, grid_width, kChunk);
  }
  const int64_t most = batch.items ? RowMasses(batch.scores, batch.items, 0, grid_width, kChunk).stretches() : 0;
  parallel(batch.rows * most, [&](int64_t task) {
    RowMasses& row = rows[task / most];
    if (task % most < row.stretches()) row.measure(task % most);
  });
  return rows;
}

// Share of the row's mass that was not drawn.
double rest_of(const Scores& row, int64_t items, const RowStats& stats, const int64_t* index, const double* prob,
               int64_t n) {
  double rest = 1;
  for (int64_t j = 0; j < n; ++j) rest -= prob[j];
  if (row.dtype != kFloat64 && rest > 0.05) return rest;
  // Where little is left the difference cancels: sum the items that were not drawn.
  std::vector<uint8_t> open(items, 1);
  if (row.mask) std::copy(row.mask, row.mask + items, open.begin());
  for (int64_t j = 0; j < n; ++j) open[index[j]] = 0;
  const bool* left = reinterpret_cast<const bool*>(open.data());
  rest = kernels().sum_exp({row.data, left, row.dtype}, items, stats.max);
  if (row.dtype != kFloat64 && rest < 1e-24) {  // float32 takes what is below exp(-87) for nothing
    std::vector<double> wide(items);
    for (int64_t i = 0; i < items; ++i) wide[i] = score(row, i);
    rest = kernels().sum_exp({wide.data(), left, kFloat64}, items, stats.max);
  }
  return rest / stats.sum;
}

// log_prob and weight of one row whose draw stands in index.
template <class T>
void weigh(const Scores& row, int64_t items, const RowStats& stats, const RowMasses* masses, int64_t sampler,
           int64_t estimator, const int64_t* index, int64_t width, T* log_prob, T* weight) {
  int64_t n = 0;
  const double log_sum = std::log(stats.sum);
  std::vector<double> prob(width), w(width, 0.0);
  for (int64_t j = 0; j < width; ++j) {
    log_prob[j] = 0;
    if (index[j] < 0) continue;
    const double value = (score(row, index[j]) - stats.max) - log_sum;
    log_prob[j] = static_cast<T>(std::max(value, static_cast<double>(std::numeric_limits<T>::lowest())));
    prob[j] = std::exp(value);
    n = j + 1;
  }
  if (sampler == kReplacementSampler && n > 0) {
    const double share = static_cast<double>(masses->total()) / static_cast<double>(n);
    for (int64_t j = 0; j < n; ++j) w[j] = prob[j] * (share / static_cast<double>(masses->mass(index[j])));
  } else if (sampler == kTopk) {
    double sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += prob[j];
    for (int64_t j = 0; j < n; ++j) w[j] = prob[j] / sum;
  } else if (sampler == kThresholdSampler && n > 0) {
    const Cut parts = masses->cut(n);
    for (int64_t j = 0; j < n; ++j) w[j] = prob[j] / parts.inclusion(masses->mass(index[j]));
  } else if (n > 0) {
    const double rest = rest_of(row, items, stats, index, prob.data(), n);
    if (estimator == kDesraj)
      desraj(prob.data(), n, rest, w.data());
    else
      Murthy(prob.data(), n, rest, row.dtype == kFloat64 ? kDouble : kSingle).weigh(w.data());
  }
  for (int64_t j = 0; j < width; ++j) weight[j] = static_cast<T>(w[j]);
}

// `masses` are needed for the samplers that add them.
void weigh_rows(const Batch& batch, const std::vector<RowStats>& stats, const std::vector<RowMasses>& masses,
                int64_t sampler, int64_t estimator, Drawn& drawn) {
  const int64_t width = drawn.index.size(1);
  const int64_t* index = read<int64_t>(drawn.index);
  double* lse = write<double>(drawn.lse);
  void *log_prob = drawn.log_prob.mutable_data_ptr(), *weight = drawn.weight.mutable_data_ptr();
  parallel(batch.rows, [&](int64_t b) {
    const int64_t at = b * width;
    lse[2 * b] = stats[b].drawable ? stats[b].max : 0.0;
    lse[2 * b + 1] = stats[b].drawable ? std::log(stats[b].sum) : 0.0;
    const auto run = [&](auto* log_probs, auto* weights) {
      const RowMasses* mass = masses.empty() ? nullptr : &masses[b];
      weigh(batch.row(b), batch.items, stats[b], mass, sampler, estimator, index + at, width, log_probs + at,
            weights + at);
    };
    if (batch.scores.dtype == kFloat64)
      run(static_cast<double*>(log_prob), static_cast<double*>(weight));
    else
      run(static_cast<float*>(log_prob), static_cast<float*>(weight));
  });
}

Drawn make_drawn(const Batch& batch, const Tensor& index) {
  const ScalarType type = batch.probability_type();
  const int64_t width = index.size(1);
  return {index, make({batch.rows, width}, type), make({batch.rows, width}, type),
          make({batch.rows, 2}, ScalarType::Double)};
}

}  // namespace

Drawn draw(const Batch& batch, const Tensor& seed, const std::optional<Tensor>& counts, const Rule& rule) {
  check_draw(batch, seed, counts, rule);
  const Tensor seeds = dense(seed);
  const std::optional<Tensor> limits = dense(counts);
  Drawn drawn = make_drawn(batch, make({batch.rows, rule.num_samples}, ScalarType::Long));
  int64_t* index = write<int64_t>(drawn.index);
  std::fill(index, index + batch.rows * rule.num_samples, -1);

  const std::vector<RowStats> stats = statistics(batch);
  const bool repeats = rule.sampler == kReplacementSampler;
  std::vector<int64_t> draws(batch.rows);
  std::vector<Key> keys(batch.rows);
  std::vector<Race> races;
  for (int64_t b = 0; b < batch.rows; ++b) {
    const int64_t wanted = limits ? read<int64_t>(*limits)[b] : rule.num_samples;
    require(wanted >= 0 && wanted <= rule.num_samples, "counts must lie between 0 and num_samples");
    const int64_t needed = repeats ? std::min<int64_t>(wanted, 1) : wanted, drawable = stats[b].drawable;
    if (drawable < needed && !rule.pad) throw std::runtime_error(complain_of_few(needed, drawable, b));
    draws[b] = drawable >= needed ? wanted : repeats ? 0 : drawable;
    const int64_t own = read<int64_t>(seeds)[seed.dim() ? b : 0];
    keys[b] = {static_cast<uint64_t>(own), static_cast<uint32_t>(seed.dim() ? 0 : b)};
    if (rule.sampler == kGumbel && draws[b]) races.emplace_back(b, draws[b], stats[b], keys[b]);
  }
  run_races(std::move(races), batch, stats, rule.num_samples, index);
  std::vector<RowMasses> masses;
  if (repeats || rule.sampler == kThresholdSampler) masses = measure(batch, stats, rule.grid_width);
  parallel(rule.sampler == kGumbel ? 0 : batch.rows, [&](int64_t b) {
    int64_t* row = index + b * rule.num_samples;
    if (!draws[b]) return;
    if (rule.sampler == kTopk) draw_topk(batch.row(b), batch.items, draws[b], row);
    if (rule.sampler == kThresholdSampler) masses[b].draw_threshold(draws[b], keys[b], row);
    if (repeats) masses[b].draw_replacement(draws[b], keys[b], row);
  });
  weigh_rows(batch, stats, masses, rule.sampler, rule.estimator, drawn);
  return drawn;
}

namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> sample(Tensor logits, std::optional<Tensor> mask, Tensor seed,
                                                  std::optional<Tensor> counts, int64_t num_samples, int64_t sampler,
                                                  int64_t estimator, bool pad, int64_t grid_width) {
  const Drawn drawn = draw(Batch(logits, mask), seed, counts, {num_samples, sampler, estimator, pad, grid_width});
  return {drawn.index, drawn.log_prob, drawn.weight, drawn.lse};
}

void check_index(const Tensor& index, const Batch& batch) {
  check_index_tensor(index, batch);
  const Tensor drawn = dense(index);
  const int64_t *items = read<int64_t>(drawn), width = index.size(1);
  for (int64_t i = 0; i < batch.rows * width; ++i) {
    require(items[i] >= -1 && items[i] < batch.items, "index must be -1 or an item");
    require(items[i] < 0 || i % width == 0 || items[i - 1] >= 0, "index must have -1 behind the items only");
    require(items[i] < 0 || score(batch.row(i / width), items[i]) != -kInf, "index must name items that may be drawn");
  }
}

std::tuple<Tensor, Tensor, Tensor> draw_weights(Tensor logits, std::optional<Tensor> mask, Tensor index,
                                                int64_t sampler, int64_t estimator) {
  const Batch batch(logits, mask);
  check_codes(sampler, estimator);
  check_index(index, batch);
  Drawn drawn = make_drawn(batch, dense(index));
  const std::vector<RowStats> stats = statistics(batch);
  std::vector<RowMasses> masses;
  if (sampler == kThresholdSampler || sampler == kReplacementSampler) masses = measure(batch, stats, 0);
  weigh_rows(batch, stats, masses, sampler, estimator, drawn);
  return {drawn.log_prob, drawn.weight, drawn.lse};
}

template <class T, class W>
void add_drawn(const int64_t* index, const W* grad, int64_t draws, T* out) {
  for (int64_t j = 0; j < draws; ++j) {
    if (index[j] >= 0) out[index[j]] = from_float<T>(to_float(out[index[j]]) + static_cast<W>(grad[j]));
  }
}

// grad logit_i = sum over draws j of i of g_j - p_i sum_j g_j.
Tensor sample_backward(Tensor grad_log_prob, Tensor logits, std::optional<Tensor> mask, Tensor index, Tensor lse) {
  const Batch batch(logits, mask);
  check_backward_tensors(grad_log_prob, index, lse, batch);
  check_index(index, batch);
  const Tensor drawn = dense(index), lses = dense(lse);
  const Tensor grads = dense_as(grad_log_prob, ScalarType::Double);
  const int64_t width = drawn.size(1), chunks = chunks_of(batch.items), dtype = batch.scores.dtype;
  Tensor out = make({batch.rows, batch.items}, kScalarTypes[dtype]);
  char* data = write<char>(out);
  std::vector<double> totals(batch.rows, 0.0);
  for (int64_t i = 0; i < batch.rows * width; ++i) {
    if (read<int64_t>(drawn)[i] >= 0) totals[i / width] += read<double>(grads)[i];
  }
  parallel(batch.rows * chunks, [&](int64_t task) {
    const int64_t b = task / chunks, first = task % chunks * kChunk, items = chunk_items(batch.items, task % chunks);
    void* to = data + (b * batch.items + first) * dtype_bytes(dtype);
    kernels().softmax_backward(batch.row(b).from(first), items, read<double>(lses) + 2 * b, totals[b], to);
  });
  parallel(batch.rows, [&](int64_t b) {
    const int64_t* row = read<int64_t>(drawn) + b * width;
    const double* grad = read<double>(grads) + b * width;
    void* to = data + b * batch.items * dtype_bytes(dtype);
    switch (dtype) {
      case kFloat16:
        return add_drawn(row, grad, width, static_cast<Half*>(to));
      case kBfloat16:
        return add_drawn(row, grad, width, static_cast<Bfloat*>(to));
      case kFloat32:
        return add_drawn(row, grad, width, static_cast<float*>(to));
      default:
        return add_drawn(row, grad, width, static_cast<double*>(to));
    }
  });
  return out;
}

}  // namespace

}  // namespace zoomkern

STABLE_TORCH_LIBRARY_IMPL(zoomkern, CPU, m) {
  m.impl("sample", TORCH_BOX(&zoomkern::sample));
  m.impl("draw_weights", TORCH_BOX(&zoomkern::draw_weights));
  m.impl("sample_backward", TORCH_BOX(&zoomkern::sample_backward));
}
