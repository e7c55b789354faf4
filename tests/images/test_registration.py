"""Page-locked memory: what CUDA is asked, in which order, and what is left when it refuses.

CUDA itself is a stand-in that records its calls. The views are real CUDA tensors, which nobody reads.
"""

import contextlib
import copy
import ctypes
import gc
import mmap
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from zoomkern import ImageBank, PinnedImage, Pyramid, gather_patches
from zoomkern.functional import reads
from zoomkern.images import host_module, memory, registration
from zoomkern.images.resolve import resolve_images
from zoomkern.typing import PIXEL_DTYPES

PAGE = mmap.PAGESIZE
READ_ONLY, PORTABLE, DEFAULT = 0x08, 0x03, 0x00
BOTH = READ_ONLY | PORTABLE


class FakeCuda:
    """CUDA with two devices, of which every call is recorded; ``refuse(number, flags)`` may give an error."""

    def __init__(self):
        self.calls = []
        self.refuse = lambda number, flags: 0
        self.unregistered = 0
        self.capturing = False
        self.registered = {}

    def cudaHostRegister(self, address, nbytes, flags):
        code = self.refuse(len([call for call in self.calls if call[0] == "register"]), flags)
        self.calls.append(("register", address, nbytes, flags))
        if code == 0:
            self.registered[address] = nbytes
        return code

    def cudaHostUnregister(self, address):
        self.calls.append(("unregister", address))
        del self.registered[address]
        return self.unregistered

    def cudaGetErrorString(self, status):
        return f"error number {status}"

    def synchronize(self, device=None):
        self.calls.append(("synchronize", device))

    @property
    def flags(self):
        return [call[3] for call in self.calls if call[0] == "register"]

    @property
    def names(self):
        return [call[0] for call in self.calls]


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    replaced = {
        "cudart": lambda: fake,
        "current_device": lambda: 0,
        "device": lambda index: contextlib.nullcontext(),
        "device_count": lambda: 2,
        "is_available": lambda: True,
        "is_initialized": lambda: False,
        "is_current_stream_capturing": lambda: fake.capturing,
        "synchronize": fake.synchronize,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
    }
    for name, stand_in in replaced.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    yield fake
    gc.collect()  # what a test leaves goes while the stand-in is there


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(registration, "CHUNK_BYTES", 2 * PAGE)


def pinned(height=4, width=5, dtype=torch.uint8):
    values = torch.arange(3 * height * width).reshape(height, width, 3).permute(2, 0, 1)
    return PinnedImage(values.to(dtype))


def five_pages():
    return PinnedImage(torch.zeros(1, 5, PAGE, dtype=torch.uint8))


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(40 * 50 * 3, dtype=np.uint16).astype(np.uint8).reshape(40, 50, 3))
    return tmp_path / "a.npy"


@pytest.mark.parametrize("dtype", PIXEL_DTYPES)
def test_a_view_is_the_image_on_the_device_that_was_asked_for(cuda, dtype):
    image = pinned(dtype=dtype)

    for device, index in ((None, 0), ("cuda", 0), (1, 1), (torch.device("cuda:1"), 1)):
        view = image.cuda_view(device)
        assert view.device == torch.device("cuda", index)
        assert (view.dtype, view.shape) == (dtype, image.shape)
        assert (view.data_ptr(), view.stride()) == (image.tensor.data_ptr(), image.tensor.stride())
    assert cuda.names == ["register"]  # once for all devices
    assert image.cuda_view(1) is image.cuda_view("cuda:1")


def test_a_view_made_in_inference_mode_serves_training_too(cuda):
    with torch.inference_mode():
        view = pinned(dtype=torch.float32).cuda_view()
    assert not view.is_inference()


def test_an_image_that_meets_no_gpu_is_never_registered(cuda):
    image = pinned()
    gather_patches([image], torch.zeros(1, 1, 2, dtype=torch.int64), 2)
    assert image.registration is None
    assert "registration" not in repr(image)
    del image
    assert cuda.calls == []


@pytest.mark.parametrize("own", ["pages", "mmap"])
def test_whole_pages_that_nothing_else_lies_in_are_registered(cuda, monkeypatch, own):
    if own == "mmap":
        monkeypatch.setattr(memory, "host_module", lambda: None)
    elif host_module() is None:
        pytest.skip("zoomkern._host is not built")
    images = [pinned() for _ in range(20)]
    for image in images:
        image.pin()

    spans = sorted(cuda.registered.items())
    assert all(address % PAGE == 0 and nbytes == PAGE for address, nbytes in spans)
    assert all(a[0] + a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize(
    ("refused", "flags", "how"),
    [({}, [PORTABLE], "portable"), ({PORTABLE: 801}, [PORTABLE, DEFAULT], "default")],
)
def test_flags_are_tried_in_order_and_named(cuda, refused, flags, how):
    cuda.refuse = lambda number, tried: refused.get(tried, 0)
    image = pinned()
    image.pin()
    assert (cuda.flags, image.registration) == (flags, how)
    assert f"registration={how!r})" in repr(image)


@pytest.mark.parametrize(
    ("mode", "refused", "flags", "how"),
    [
        ("r", {}, [BOTH], "portable read-only"),
        ("r", {BOTH: 801}, [BOTH, READ_ONLY], "read-only"),
        ("r", {BOTH: 801, READ_ONLY: 801}, [BOTH, READ_ONLY, PORTABLE], "portable"),
        ("r", {BOTH: 801, READ_ONLY: 1, PORTABLE: 1}, [BOTH, READ_ONLY, PORTABLE, DEFAULT], "default"),
        ("r+", {}, [PORTABLE], "portable"),
        ("c", {}, [PORTABLE], "portable"),
        (None, {}, [PORTABLE], "portable"),
    ],
)
def test_a_map_is_registered_in_place_and_read_only_if_it_is(cuda, file, mode, refused, flags, how):
    cuda.refuse = lambda number, tried: refused.get(tried, 0)
    image = PinnedImage.from_memmap(file if mode is None else np.load(file, mmap_mode=mode))
    view = image.cuda_view()
    assert (cuda.flags, image.registration) == (flags, how)
    assert view.data_ptr() == image.tensor.data_ptr()
    ((address, nbytes),) = cuda.registered.items()
    assert address % PAGE == 0
    assert address <= view.data_ptr() < address + nbytes
    assert address + nbytes >= view.data_ptr() + image.nbytes


@pytest.mark.parametrize("code", [1, 712, 801])
def test_a_map_that_cuda_finds_unsuitable_is_copied_and_the_copy_registered(cuda, file, code):
    cuda.refuse = lambda number, flags: code if number < 4 else 0
    image = PinnedImage.from_memmap(np.load(file, mmap_mode="r"))
    tensor, view = image.tensor, image.cuda_view()

    assert cuda.flags == [BOTH, READ_ONLY, PORTABLE, DEFAULT, PORTABLE]
    assert image.registration == "portable, a copy"
    assert image.tensor is tensor
    assert view.data_ptr() != tensor.data_ptr()
    assert view.stride() == (1, 256, 3)
    shown = np.ctypeslib.as_array((registration.ctypes.c_uint8 * (40 * 256)).from_address(view.data_ptr()))
    assert np.array_equal(shown.reshape(40, 256)[:, :150].reshape(40, 50, 3), np.load(file))


def test_memory_of_our_own_is_never_copied(cuda):
    cuda.refuse = lambda number, flags: 801
    image = pinned()
    with pytest.raises(RuntimeError, match="refused them as portable and as default"):
        image.cuda_view()
    assert cuda.flags == [PORTABLE, DEFAULT]
    assert image.registration is None


def test_a_lack_of_memory_is_no_reason_to_try_other_flags_or_a_copy(cuda, file):
    cuda.refuse = lambda number, flags: 2
    with pytest.raises(RuntimeError) as error:
        PinnedImage.from_memmap(np.load(file, mmap_mode="r")).pin()
    assert cuda.flags == [BOTH]
    text = str(error.value)
    assert re.search(r"8,192 bytes of host memory must be page-locked .* as portable read-only: ", text)
    assert "as portable read-only: error number 2 (2)" in text
    assert re.search(r"RLIMIT_MEMLOCK is (unlimited|[\d,]+ bytes|unknown).*ulimit -l unlimited", text)


def test_the_limit_in_force_is_named(monkeypatch):
    class Host:
        limits = staticmethod(lambda: {"memlock_soft": 65536})

    monkeypatch.setattr(registration, "host_module", lambda: Host)
    assert registration._memlock() == "65,536 bytes"
    monkeypatch.setattr(Host, "limits", staticmethod(lambda: {"memlock_soft": None}))
    assert registration._memlock() == "unlimited"
    monkeypatch.setattr(registration, "host_module", lambda: None)
    assert "not built" in registration._memlock()


@pytest.mark.usefixtures("small_chunks")
def test_large_images_are_registered_in_chunks_that_meet(cuda):
    seen = []
    image = five_pages()
    image.pin(lambda *where: seen.append(where))

    start = image.tensor.data_ptr()
    spans = [call[1:3] for call in cuda.calls]
    assert spans == [(start, 2 * PAGE), (start + 2 * PAGE, 2 * PAGE), (start + 4 * PAGE, PAGE)]
    assert seen == [(2 * PAGE, 5 * PAGE), (4 * PAGE, 5 * PAGE), (5 * PAGE, 5 * PAGE)]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_failure_in_the_middle_unregisters_what_was_registered(cuda, failing):
    cuda.refuse = lambda number, flags: 2 if number == failing else 0
    image = five_pages()
    with pytest.raises(RuntimeError, match=r"error number 2 \(2\)"):
        image.pin()
    assert cuda.names == ["register"] * (failing + 1) + ["unregister"] * failing
    assert cuda.registered == {}

    cuda.refuse = lambda number, flags: 0
    assert image.cuda_view().data_ptr() == image.tensor.data_ptr()  # it can be tried again


@pytest.mark.usefixtures("small_chunks")
def test_flags_that_fail_in_the_middle_are_undone_before_the_next_are_tried(cuda):
    cuda.refuse = lambda number, flags: 1 if number == 1 else 0
    image = five_pages()
    image.pin()
    assert cuda.names == ["register", "register", "unregister", "register", "register", "register"]
    assert cuda.flags == [PORTABLE, PORTABLE, DEFAULT, DEFAULT, DEFAULT]
    assert len(cuda.registered) == 3


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_registration_is_undone(cuda):
    def interrupt(done, total):
        if done == 4 * PAGE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        five_pages().pin(interrupt)
    assert cuda.registered == {}


def test_a_refused_call_is_not_left_for_the_next_kernel(cuda, monkeypatch):
    blamed = []
    monkeypatch.setattr(registration, "_forget_error", blamed.append)
    cuda.refuse = lambda number, flags: 801 if number == 0 else 0
    pinned().cuda_view("cuda:1")
    assert blamed == [1]


def owner_of(image):
    """What keeps the bytes of an image, weakly."""
    return image._memory.owner


@pytest.mark.usefixtures("small_chunks")
def test_the_devices_are_waited_for_then_the_chunks_unregistered_then_the_pages_freed(cuda):
    image = five_pages()
    weakref.finalize(owner_of(image)(), cuda.calls.append, ("freed",))
    views = [image.cuda_view(0), image.cuda_view(1)]
    del image
    gc.collect()
    first, second = views[0].detach(), views[1]
    del views
    assert cuda.names == ["register"] * 3  # any tensor over the bytes keeps them
    del first
    assert cuda.names == ["register"] * 3
    del second
    assert cuda.names[3:] == ["synchronize"] * 2 + ["unregister"] * 3 + ["freed"]
    assert [call[1] for call in cuda.calls if call[0] == "synchronize"] == [0, 1]
    assert cuda.registered == {}


def test_a_view_that_another_thread_drops_last_is_released_there(cuda):
    held = [pinned().cuda_view()]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert cuda.names == ["register", "synchronize", "unregister"]


def test_memory_is_kept_where_the_device_cannot_be_waited_for(cuda, monkeypatch):
    image = pinned()
    owner, view = owner_of(image), image.cuda_view()

    def broken(device):
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: cuda.calls.append((str(problem.exc_value),)))
    del image, view
    gc.collect()
    assert cuda.names == ["register", "the device is lost"]
    assert owner() is not None


def test_memory_is_kept_where_cuda_does_not_let_go(cuda, monkeypatch):
    cuda.unregistered = 4
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: cuda.calls.append((str(problem.exc_value),)))
    image = pinned()
    owner = owner_of(image)
    image.pin()
    del image
    assert re.search("did not let go of 4,096 bytes of host memory: error number 4.", cuda.names[-1])
    assert owner() is not None


def test_memory_that_only_a_copy_engine_reads_is_waited_for_too(cuda):
    image = pinned()
    image.pin()
    del image
    assert cuda.names == ["register", "synchronize", "unregister"]


def test_a_device_with_other_addresses_is_refused(cuda, monkeypatch):
    class Driver:
        def cuDeviceGetAttribute(self, value, name, device):
            assert (name, device) == (91, 1)
            value._obj.value = 0

    registration._check_host_pointers.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    with pytest.raises(RuntimeError, match=r"cuda:1 does not.*image\.tensor\.to"):
        pinned().cuda_view(1)
    registration._check_host_pointers.cache_clear()


def test_what_is_dropped_during_a_capture_is_released_with_the_next_image(cuda):
    first, second = pinned(), pinned()
    owner = owner_of(first)
    first.cuda_view(), second.cuda_view()
    cuda.capturing = True
    del first
    assert cuda.names == ["register"] * 2
    assert owner() is not None
    cuda.capturing = False
    del second
    assert cuda.names[2:] == ["synchronize", "unregister"] * 2
    assert owner() is None


def test_a_failed_registration_frees_nothing_twice_and_holds_nothing(cuda):
    cuda.refuse = lambda number, flags: 2
    image = pinned()
    owner = owner_of(image)
    with pytest.raises(RuntimeError):
        image.pin()
    del image
    gc.collect()
    assert owner() is None


def test_a_fence_waits_for_the_devices_with_a_view(cuda):
    image = pinned()
    image.fence()
    image.cuda_view(1)
    image.fence()
    assert cuda.calls[1:] == [("synchronize", 1)]


def in_a_forked_child(check):
    """The status of ``check()`` in a child, 0 if it is true."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 3
        with contextlib.suppress(BaseException):
            signal.alarm(30)
            status = 0 if check() else 2
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_drops_the_image_without_a_call(cuda):
    images = [pinned(), pinned()]
    owners = [owner_of(image) for image in images]
    for image in images:
        image.cuda_view()

    def check():
        image = None  # noqa: F841
        images.clear()
        gc.collect()
        return cuda.names == ["register"] * 2 and all(owner() is None for owner in owners)

    del image
    assert in_a_forked_child(check) == 0
    assert cuda.names == ["register"] * 2
    assert all(owner() is not None for owner in owners)
    images.clear()
    assert cuda.names[2:] == ["synchronize", "unregister"] * 2


def test_a_forked_child_that_asks_for_a_view_is_told_what_to_do(cuda, monkeypatch):
    parent = os.getpid()
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: os.getpid() != parent)
    image = pinned()
    image.cuda_view()

    def check():
        with pytest.raises(RuntimeError, match="forked process.*multiprocessing_context='spawn'"):
            image.cuda_view()
        return image.tensor.numpy()[0, 0, 1] == 3 and cuda.names == ["register"]

    assert in_a_forked_child(check) == 0


EXIT = """
    import atexit, contextlib, gc, weakref

    def at_last():  # what the end of the modules does, in an order that lets the test look
        owner = image._memory.owner
        weakref.finalize._registry.clear()
        del globals()["image"], globals()["view"]
        gc.collect()
        print("mapped" if owner() is not None else "freed", flush=True)

    atexit.register(at_last)
    import torch
    from zoomkern import PinnedImage

    class Cuda:
        def cudaHostRegister(self, *range):
            return 0

        def cudaHostUnregister(self, address):
            print("unregister", flush=True)
            return 0

    for name, stand_in in {
        "cudart": Cuda, "current_device": lambda: 0, "device": lambda i: contextlib.nullcontext(),
        "device_count": lambda: 1, "is_available": lambda: True, "is_current_stream_capturing": lambda: False,
        "synchronize": lambda device: print("synchronize", flush=True), "_lazy_init": lambda: None,
    }.items():
        setattr(torch.cuda, name, stand_in)

    dropped, image = [PinnedImage(torch.zeros(3, 500, 500)) for _ in range(2)]
    view, _ = image.cuda_view(), dropped.cuda_view()
    del dropped, _
    print("exit", flush=True)
    {cycle}
"""


@pytest.mark.parametrize("cycle", ["", "image.itself = image"])
def test_at_exit_the_memory_stays_registered_and_mapped(cycle):
    code = textwrap.dedent(EXIT.replace("{cycle}", cycle))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.split("\n") == ["synchronize", "unregister", "exit", "mapped", ""]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda image: pickle.loads(pickle.dumps(image))])
def test_a_copy_carries_no_registration_and_no_page_of_another(cuda, again):
    image = pinned()
    image.pin()
    others = [again(image) for _ in range(5)]
    assert all(other.registration is None for other in others)
    assert cuda.names == ["register"]
    for other in others:
        other.pin()
        assert torch.equal(other.tensor, image.tensor)
    assert len(cuda.registered) == 6


def test_an_image_that_is_sent_away_is_registered_anew_and_older_views_keep_their_memory(cuda):
    image = pinned()
    owner, before = owner_of(image), image.cuda_view()
    old = before.data_ptr()
    ForkingPickler.dumps(image)

    assert image.tensor.is_shared()
    assert owner() is not None  # the old view may still be read
    after = image.cuda_view()
    assert after.data_ptr() == image.tensor.data_ptr() != old
    assert cuda.names == ["register", "register"]
    del before
    assert cuda.names[2:] == ["synchronize", "unregister"]
    assert owner() is None
    ForkingPickler.dumps(image)  # it moves once
    assert image.cuda_view() is after


def test_an_image_that_was_never_registered_leaves_its_pages_when_it_is_sent_away():
    image = pinned()
    owner = owner_of(image)
    ForkingPickler.dumps(image)
    assert owner() is None


def test_a_bank_that_is_sent_away_follows_its_images(cuda, monkeypatch):
    monkeypatch.setattr(ImageBank, "_describe", described_on_cpu)
    image = pinned()
    bank = ImageBank([image], device="cuda")
    ForkingPickler.dumps(bank)
    assert bank.images[0] is image.cuda_view()
    assert bank.table[0, 0] == image.tensor.data_ptr() == bank.images[0].data_ptr()


def described_on_cpu(bank):
    """The bank's table, which no torch without CUDA could hold."""
    from zoomkern.images.bank import descriptor

    return torch.tensor([descriptor(image, "image") for image in bank.images])


def test_a_bank_describes_the_views_of_its_device(cuda, monkeypatch):
    monkeypatch.setattr(ImageBank, "_describe", described_on_cpu)
    images = [pinned(), pinned(7, 3)]
    assert {view.device.type for view in ImageBank(images).images} == {"cpu"}
    assert cuda.calls == []
    bank = ImageBank(images, device="cuda:1")
    assert [view.device for view in bank.images] == [torch.device("cuda:1")] * 2
    assert [row[0] for row in bank.table.tolist()] == [image.tensor.data_ptr() for image in images]
    assert bank.__reduce__() == (ImageBank, (images, torch.device("cuda:1")))


@pytest.mark.parametrize("images", [[torch.zeros(3, 4, 4)], [torch.zeros(3, 4, 4), pinned()]])
def test_a_bank_on_a_gpu_refuses_plain_host_memory(cuda, images):
    with pytest.raises(ValueError, match=r"images\[0\] must be on cuda as the bank; got cpu. Make it a PinnedImage"):
        ImageBank(images, device="cuda")


def test_images_become_what_the_device_of_the_call_sees(cuda):
    image = pinned(8, 8)
    pyramid = Pyramid.build(image, levels=2)
    gpu = torch.device("cuda:1")

    seen = resolve_images([image, pyramid], device=gpu)
    assert [tensor.device for tensor in seen] == [gpu, gpu]
    assert seen[0] is seen[1]  # level 0 is the image itself
    (coarse,) = resolve_images([pyramid], 1, gpu)
    assert (coarse.device, coarse.data_ptr()) == (gpu, pyramid[1].data_ptr())
    assert [tensor.device.type for tensor in resolve_images([image, pyramid])] == ["cpu", "cpu"]


def test_plain_host_memory_for_logits_on_a_gpu_is_refused_with_a_cure():
    with pytest.raises(ValueError, match="images must be on cuda:0, like logits; got cpu. Make them PinnedImage"):
        reads._check_batch([torch.zeros(3, 4, 4)], 1, torch.device("cuda:0"), "logits")


def test_without_a_gpu_a_view_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for ask in (pinned().cuda_view, pinned().pin):
        with pytest.raises(RuntimeError, match="torch sees no CUDA device. Read image.tensor"):
            ask()


@pytest.mark.parametrize(
    ("device", "message"),
    [("cpu", "device must be a CUDA device; got cpu"), (2, "device must be one of 2 CUDA devices; got cuda:2")],
)
def test_a_device_that_is_none_is_refused_before_anything_is_registered(cuda, device, message):
    with pytest.raises(ValueError, match=message):
        pinned().cuda_view(device)
    assert cuda.calls == []


def test_two_threads_register_an_image_once(cuda, monkeypatch):
    together = threading.Barrier(2, timeout=5)

    def slow(number, flags):
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.2)
        return 0

    cuda.refuse = slow
    image = pinned()
    threads = [threading.Thread(target=image.pin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cuda.names == ["register"]
