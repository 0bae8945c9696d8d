// Which tasks each worker has, by the rules of tasks/tasks.py, against which a test holds them.

function numberOfWorkers(number, { most, each, says_code: saysCode, most_workers: usual }) {
  if (most && each) return Math.min(most, Math.max(1, Math.floor(number / each)));
  if (each) return Math.ceil(number / each);
  return Math.min(most || (saysCode ? number : usual), number);
}

// In lots of so many, the last one with what remains.
function dealInLots(chosenTasks, each) {
  const lots = [];
  for (let start = 0; start < chosenTasks.length; start += each) {
    lots.push(chosenTasks.slice(start, start + each));
  }
  return lots;
}

// In contiguous runs, whose lengths differ by one at most.
function dealInOrder(chosenTasks, workers) {
  const end = (worker) => Math.floor((chosenTasks.length * worker) / workers);
  return Array.from({ length: workers }, (_, worker) =>
    chosenTasks.slice(end(worker), end(worker + 1))
  );
}

// Each of the largest first to the least loaded; within a share, tasks keep their order.
function dealBySize(chosenTasks, workers, sizes) {
  const places = chosenTasks.map((_, place) => place);
  const largestFirst = [...places].sort((a, b) => sizes[chosenTasks[b]] - sizes[chosenTasks[a]]);
  const shares = Array.from({ length: workers }, () => []);
  const heap = shares.map((_, worker) => ({ bytes: 0, held: 0, worker })); // the least at the top
  for (const place of largestFirst) {
    const least = heap[0];
    shares[least.worker].push(place);
    least.bytes += sizes[chosenTasks[place]];
    least.held += 1;
    sink(heap);
  }
  return shares.map((share) => share.sort((a, b) => a - b).map((place) => chosenTasks[place]));
}

const isLess = (a, b) => (a.bytes - b.bytes || a.held - b.held || a.worker - b.worker) < 0;

// Bring what has become heavier at the top of a heap down to its place.
function sink(heap) {
  for (let place = 0; ; ) {
    const [left, right] = [2 * place + 1, 2 * place + 2];
    let least = left < heap.length && isLess(heap[left], heap[place]) ? left : place;
    if (right < heap.length && isLess(heap[right], heap[least])) least = right;
    if (least === place) return;
    [heap[place], heap[least]] = [heap[least], heap[place]];
    place = least;
  }
}

function deal(chosenTasks, sharing, sizes) {
  if (!chosenTasks.length) return [];
  const workers = numberOfWorkers(chosenTasks.length, sharing);
  if (sharing.by_size) return dealBySize(chosenTasks, workers, sizes);
  if (sharing.each && !sharing.most) return dealInLots(chosenTasks, sharing.each);
  return dealInOrder(chosenTasks, workers);
}
