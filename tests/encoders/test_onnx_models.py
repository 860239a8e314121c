"""ONNX encoders against the torch model that they were exported from."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from histolatent.encoders import encode, encoder  # noqa: E402
from histolatent.encoders.torch_models import normalise, to_device  # noqa: E402
from histolatent.errors import EncoderError, OptionError  # noqa: E402

CARD = {
    "name": "small", "licence": "MIT", "settings": {"layout": "NCHW"},
    "preprocessing": {"resize": "squash", "input_px": 16, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
}  # fmt: skip


def export(path, *, batch="n", layout="NCHW", kind=TensorProto.FLOAT, pooled=True, px=16):
    """Write conv -> relu -> mean as ONNX by hand, and return the torch model of the same weights."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 6, 3)
    weights = [numpy_helper.from_array(value.detach().numpy(), name) for name, value in conv.named_parameters()]
    nodes, data = [], "input"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [data], ["cast"], to=TensorProto.FLOAT))
        data = "cast"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [data], ["nchw"], perm=[0, 3, 1, 2]))
        data = "nchw"
    nodes += [
        helper.make_node("Conv", [data, "weight", "bias"], ["conv"]),
        helper.make_node("Relu", ["conv"], ["relu"]),
    ]
    outputs = [helper.make_tensor_value_info("relu", TensorProto.FLOAT, None)]
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["relu"], ["map"]),
            helper.make_node("Flatten", ["map"], ["out"]),
        ]
        outputs.insert(0, helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 6]))
    shape = [batch, 3, px, px] if layout == "NCHW" else [batch, px, px, 3]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("input", kind, shape)], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return lambda images: conv(images).relu().mean(dim=(2, 3)).detach().numpy()


def write_card(path, **more):
    path.with_name(path.name + ".card.json").write_text(json.dumps({**CARD, **more}))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_onnx_equals_torch(tmp_path, tiles, layout, batch):
    path = tmp_path / "m.onnx"
    model = export(path, batch=batch, layout=layout)
    write_card(path, settings={"layout": layout})
    found = encoder(f"onnx:{path}", device="cpu")
    assert (found.card.dim, found.card.kind, found.card.name) == (6, "onnx", "small")
    prepared = np.ascontiguousarray(tiles[:, :16, :16])
    oracle = model(normalise(to_device(prepared, "cpu"), found.card.preprocessing))
    np.testing.assert_allclose(found.forward(prepared), oracle, atol=1e-5)
    np.testing.assert_allclose(encode(found, tiles, batch_size=3), encode(found, tiles), atol=1e-6)


def test_torch_export_runs(tmp_path, tiles):
    pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    path = tmp_path / "m.onnx"
    torch.onnx.export(model, (torch.zeros(1, 3, 16, 16),), path)
    write_card(path)
    assert encode(encoder(f"onnx:{path}", device="cpu"), tiles).shape == (5, 4)


def test_uint8_models_get_uint8(tmp_path, tiles):
    path = tmp_path / "m.onnx"
    model = export(path, kind=TensorProto.UINT8)
    write_card(path, preprocessing={"resize": "squash", "input_px": 16})
    prepared = np.ascontiguousarray(tiles[:, :16, :16])
    oracle = model(to_device(prepared, "cpu").float())
    np.testing.assert_allclose(encoder(f"onnx:{path}", device="cpu").forward(prepared), oracle, rtol=1e-4)


def test_the_other_place_of_the_card_and_the_revision(tmp_path):
    path = tmp_path / "m.onnx"
    export(path)
    (tmp_path / "m.card.json").write_text(json.dumps(CARD))
    found = encoder(f"onnx:{path}", device="cpu")
    assert found.card.revision == f"sha256:{found.card.weights_sha256}"


def test_without_a_card_the_minimal_one_is_printed(tmp_path):
    path = tmp_path / "m.onnx"
    export(path)
    with pytest.raises(EncoderError, match=r"has no card beside it.*write m.onnx.card.json") as caught:
        encoder(f"onnx:{path}")
    text = str(caught.value)
    minimal = json.loads(text[text.index("{") : text.rindex("}") + 1])
    minimal["preprocessing"].update(input_px=16, resize_px=16)
    (tmp_path / "m.onnx.card.json").write_text(json.dumps(minimal))
    assert encoder(f"onnx:{path}", device="cpu").card.dim == 6


@pytest.mark.parametrize(
    ("model", "card", "says"),
    [
        ({"layout": "NHWC"}, {}, r'not NCHW with three channels.*"layout": "NHWC"'),
        ({}, {"settings": {"layout": "HWC"}}, "the layout in the card is unknown. Received: HWC. Valid: NCHW or NHWC"),
        ({"px": 20}, {}, "another size than the ONNX model takes. Received: input_px 16. Valid: 20 x 20 px"),
        ({"kind": TensorProto.INT32}, {}, "does not take one batch of images"),
        ({}, {"licens": "x"}, "the card is not valid.*licens: Extra"),
    ],
)
def test_cards_that_do_not_fit_are_refused(tmp_path, model, card, says):
    path = tmp_path / "m.onnx"
    export(path, **model)
    write_card(path, **card)
    with pytest.raises(EncoderError, match=says):
        encoder(f"onnx:{path}", device="cpu")


def test_bad_files_and_options_are_said(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(EncoderError, match=r"there is no such ONNX file"):
        encoder(f"onnx:{path}")
    path.write_bytes(b"not a model")
    write_card(path)
    with pytest.raises(EncoderError, match=r"onnxruntime cannot load this file"):
        encoder(f"onnx:{path}", device="cpu")
    with pytest.raises(OptionError, match=r"the precision of an ONNX file"):
        encoder(f"onnx:{path}?precision=fp16")
    (tmp_path / "m.onnx.card.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"the card does not say how to prepare tiles"):
        encoder(f"onnx:{path}")
