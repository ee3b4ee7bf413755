"""A small YOLOX for a few minutes on a CPU, as mmdet's configs have it.

The widths of yolox_nano, without depthwise convolutions, which are slow on a CPU; batch norms that follow within the
few steps of a small data set (mmdet's momentum of 0.03 is made for hundreds of epochs).
"""

model = {
    "type": "YOLOX",
    "data_preprocessor": {"type": "DetDataPreprocessor", "pad_size_divisor": 32},
    "backbone": {
        "type": "CSPDarknet",
        "deepen_factor": 0.33,
        "widen_factor": 0.25,
        "out_indices": (2, 3, 4),
        "spp_kernal_sizes": (5, 9, 13),
        "norm_cfg": {"type": "BN", "momentum": 0.1, "eps": 0.001},
        "act_cfg": {"type": "Swish"},
    },
    "neck": {
        "type": "YOLOXPAFPN",
        "in_channels": [64, 128, 256],
        "out_channels": 64,
        "num_csp_blocks": 1,
        "norm_cfg": {"type": "BN", "momentum": 0.1, "eps": 0.001},
        "act_cfg": {"type": "Swish"},
    },
    "bbox_head": {
        "type": "YOLOXHead",
        "num_classes": 80,
        "in_channels": 64,
        "feat_channels": 64,
        "stacked_convs": 2,
        "strides": (8, 16, 32),
        "norm_cfg": {"type": "BN", "momentum": 0.1, "eps": 0.001},
        "act_cfg": {"type": "Swish"},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "sum", "loss_weight": 1.0},
        "loss_bbox": {"type": "IoULoss", "mode": "square", "eps": 1e-16, "reduction": "sum", "loss_weight": 5.0},
        "loss_obj": {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "sum", "loss_weight": 1.0},
        "loss_l1": {"type": "L1Loss", "reduction": "sum", "loss_weight": 1.0},
    },
    "train_cfg": {"assigner": {"type": "SimOTAAssigner", "center_radius": 2.5}},
    "test_cfg": {"score_thr": 0.01, "nms": {"type": "nms", "iou_threshold": 0.65}},
}
test_dataloader = {
    "dataset": {
        "type": "CocoDataset",
        "pipeline": [
            {"type": "LoadImageFromFile"},
            {"type": "Resize", "scale": (192, 192), "keep_ratio": True},
            {"type": "Pad", "pad_to_square": True, "pad_val": {"img": (114.0, 114.0, 114.0)}},
            {"type": "PackDetInputs"},
        ],
    },
}
