from .chirp import chirp_cnn, deep_chirp_cnn
from .classic import alexnet, googlenet, resnet50, vgg16
from .cost import Cost, cost, shape_text
from .deep_ensemble import deep_ensemble
from .efficientnet import efficientnet_lite0, imagenet_class_names
from .hashing import model_hash
from .layer_calls import LayerCall, record_layer_calls
from .loading import MODEL_FILE, load_model, load_weights
from .molecular import (
    ELEMENTS,
    MolecularPotential,
    angular_functions,
    check_molecule,
    directional_features,
    element_indices,
    symmetry_functions,
)
from .precision import in_precision
from .recurrent import char_rnn
from .small import small_inception, small_resnet, small_vgg
from .stepping import step_model
from .text_to_image import (
    caption_encoder,
    caption_judge,
    flow_network,
    stackgan_discriminator,
    stackgan_generator,
    stackgan_refiner,
)
from .training_cost import TrainingCost
from .transformer import attention_maps, char_transformer

__all__ = [
    "ELEMENTS",
    "MODEL_FILE",
    "Cost",
    "LayerCall",
    "MolecularPotential",
    "TrainingCost",
    "alexnet",
    "angular_functions",
    "attention_maps",
    "caption_encoder",
    "caption_judge",
    "char_rnn",
    "char_transformer",
    "check_molecule",
    "chirp_cnn",
    "cost",
    "deep_chirp_cnn",
    "deep_ensemble",
    "directional_features",
    "efficientnet_lite0",
    "element_indices",
    "flow_network",
    "googlenet",
    "imagenet_class_names",
    "in_precision",
    "load_model",
    "load_weights",
    "model_hash",
    "record_layer_calls",
    "resnet50",
    "shape_text",
    "small_inception",
    "small_resnet",
    "small_vgg",
    "stackgan_discriminator",
    "stackgan_generator",
    "stackgan_refiner",
    "step_model",
    "symmetry_functions",
    "vgg16",
]
